"""The config of a plan: which stages and hints are left of those that it goes on."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmrecast.planning.config import config_text, differences, hints_for, stages_for

ROOT = Path(__file__).parents[2]
FAST = ROOT / 'configs/distill/recasting/recasting_resnet56_convnet_cifar10-fast.py'
PATHS = [f'backbone.layer{stage}.{block}' for stage in (1, 2, 3) for block in range(9)]
RATE = dict(type='OptimWrapper')


def test_stages_whose_blocks_are_all_kept_go():
    stages = [
        dict(kind='recast', blocks=['layer1.*', 'layer2.*'], iters=3, optim_wrapper=RATE),
        dict(kind='recast', blocks='layer3.*', iters=4),
        dict(kind='align', blocks='layer3.*', iters=1),
        dict(kind='finetune', epochs=1),
    ]
    assert stages_for(stages, ['layer1.0', 'layer1.2']) == [
        dict(kind='recast', blocks=['layer1.*'], iters=3, optim_wrapper=RATE),
        dict(kind='finetune', epochs=1),
    ]
    assert stages[0]['blocks'] == ['layer1.*', 'layer2.*']  # left as they were


def test_a_stage_per_block_becomes_one_for_all():
    stages = [dict(kind='recast', iters=3), dict(kind='recast', iters=5), dict(kind='finetune', epochs=1)]
    expected = [dict(kind='recast', iters=3, blocks='all'), dict(kind='finetune', epochs=1)]
    assert stages_for(stages, ['a', 'b', 'c']) == expected
    everything = [dict(kind='recast', blocks='all', iters=3)]
    assert stages_for(everything, ['a']) == everything


def test_stages_that_leave_a_source_out_become_one_for_all():
    stages = [
        dict(kind='align', iters=2),
        dict(kind='recast', blocks='layer1.*', iters=3),
        dict(kind='recast', blocks=['layer3.*'], iters=4),
        dict(kind='finetune', epochs=1),
    ]
    kept, first, second, last = stages
    assert stages_for(stages, ['layer1.0', 'layer3.1']) == [kept, first | dict(blocks=['layer1.*']), second, last]
    assert stages_for(stages, ['layer1.0', 'layer2.0']) == [kept, first | dict(blocks='all'), last]


def test_hints_at_blocks_of_another_width_go():
    hints = dict(blocks=['layer*.1'], loss=dict(type='MSELoss'))
    assert hints_for(hints, ['layer1.1', 'layer1.0'], ['layer1.0', 'layer1.1', 'layer2.1']) == dict(
        blocks=['layer1.1'], loss=dict(type='MSELoss')
    )
    assert hints_for(dict(blocks='layer2.1'), ['layer1.1'], ['layer1.1', 'layer2.1']) is None


@pytest.mark.parametrize('recast', [PATHS[:4], PATHS[:9], PATHS])
def test_the_fast_schedule_for_any_blocks(tmp_path, registered, recast):
    """What is written can be read, and is built: every stage finds its block."""
    from mmrecast.registry import MODELS
    from mmrecast.stages import Stage

    cfg = Config.fromfile(FAST)
    cfg.model.teacher_ckpt = None
    recipe = [dict(source=path, target=dict(type='ConvBlock')) for path in recast]
    file = tmp_path / 'planned.py'
    file.write_text(config_text(cfg, FAST, tmp_path, recipe, PATHS, PATHS, {}, 'a plan'))
    planned = Config.fromfile(file)
    assert file.read_text().startswith('# a plan\n') and planned.model.recipe == recipe
    planned.model.teacher_ckpt = None
    algorithm = MODELS.build(planned.model | dict(data_preprocessor=planned.data_preprocessor))
    stages = algorithm.expand([Stage.from_config(stage) for stage in planned.train_cfg.stages])
    assert [stage.block for stage in stages] == [*recast, None]


def reread(tmp_path, cfg, base=FAST, recast=PATHS[:2], trained=None):
    """Write a plan for the config and read it again."""
    recipe = [dict(source=path, target=dict(type='ConvBlock')) for path in recast]
    file = tmp_path / 'planned.py'
    file.write_text(config_text(cfg, base, tmp_path, recipe, PATHS, PATHS, trained or {}, 'a plan'))
    return Config.fromfile(file)


def test_options_of_the_command_line_are_in_the_plan(tmp_path):
    from mmrecast.utils.config_file import read_config

    options = {'model.teacher.backbone.depth': 20, 'model.hints': None, 'train_cfg.stages.3.epochs': 2}
    options |= {'model.block_loss': dict(type='RelativeMSELoss'), 'randomness.seed': 7}
    planned = reread(tmp_path, read_config(FAST, options))
    assert planned.model.teacher.backbone.depth == 20 and planned.model.teacher.backbone.block == 'basic'
    assert planned.model.hints is None and planned.model.block_loss == dict(type='RelativeMSELoss')
    assert planned.train_cfg.stages[-1].epochs == 2 and planned.randomness.seed == 7
    rest = read_config(FAST)
    assert planned.train_dataloader == rest.train_dataloader and planned.default_hooks == rest.default_hooks


@pytest.mark.parametrize('trained', [{}, {PATHS[1]: '/b.pth'}])
def test_blocks_trained_for_an_earlier_plan_are_not_taken_over(tmp_path, trained):
    earlier = tmp_path / 'earlier.py'
    earlier.write_text(f"_base_ = '{FAST}'\nmodel = dict(trained_blocks={{'{PATHS[0]}': '/a.pth'}})\n")
    planned = reread(tmp_path, Config.fromfile(earlier), earlier, trained=trained)
    assert planned.model.trained_blocks == (trained or None)


@pytest.mark.parametrize(('start', 'wanted'), [('xavier', 'closed_form'), (None, 'closed_form')])
def test_a_plan_begins_as_it_was_priced(tmp_path, registered, start, wanted):
    """Whatever the schedule begins with: the authors' has random blocks and a fresh one behind."""
    base = tmp_path / 'base.py'
    base.write_text(f"_base_ = '{FAST}'\nmodel = dict(start={start!r}, next_block='fresh')\n")
    planned = reread(tmp_path, Config.fromfile(base), base)
    assert (planned.model.start, planned.model.next_block) == (wanted, None)
    given = tmp_path / 'given.py'
    start = dict(_delete_=True, type='closed_form', images=9)
    given.write_text(f"_base_ = '{FAST}'\nmodel = dict(start={start!r}, next_block='teacher')\n")
    planned = reread(tmp_path, Config.fromfile(given), given)
    assert planned.model.start == dict(type='closed_form', images=9) and planned.model.next_block == 'teacher'


@pytest.mark.parametrize(
    ('base', 'wanted', 'changes'),
    [
        (dict(a=1, b=dict(c=2, d=3)), dict(a=1, b=dict(c=2, d=4)), dict(b=dict(d=4))),
        (dict(b=dict(c=2, d=3)), dict(b=dict(c=2)), dict(b=dict(c=2, _delete_=True))),
        (dict(b=None), dict(b=dict(c=2)), dict(b=dict(c=2, _delete_=True))),
        (dict(b=dict(c=2)), dict(b=[1]), dict(b=[1])),
        (dict(b=1), dict(b=1, e=dict(f=2)), dict(e=dict(f=2))),
    ],
)
def test_differences_are_what_mmengine_merges(tmp_path, base, wanted, changes):
    assert differences(base, wanted) == changes
    (tmp_path / 'base.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in base.items()))
    (tmp_path / 'leaf.py').write_text(
        "_base_ = 'base.py'\n" + '\n'.join(f'{key} = {value!r}' for key, value in changes.items())
    )
    assert Config.fromfile(tmp_path / 'leaf.py').to_dict() == wanted
