"""The config of a plan: which stages and hints are left of those that it goes on."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmrecast.planning.config import config_text, hints_for, stages_for

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
