"""A budget becomes a config that trains, and what cannot be planned is told in a line."""

import json
import re
from pathlib import Path

import pytest
import tiny
from mmengine.config import Config
from tiny import config, differing, recasting, tensors, write

from mmrecast.surgery.student_file import load_student

TOOL = Path(__file__).parents[2] / 'tools' / 'plan.py'
STAGES = [dict(kind='recast', blocks='all', iters=1), dict(kind='finetune', iters=1)]


@pytest.fixture
def plan(call, tmp_path, trained_teacher, quick):
    """Run the tool on a config of a teacher of three blocks, with two widths."""
    model = recasting(teacher_ckpt=trained_teacher, start='closed_form', hints=dict(blocks='backbone.layer*.0'))
    file = write(config(model, STAGES), tmp_path / 'given.py')
    fixed = ['--images', '64', '--repeats', '3', '--threads', '1', '--cache', tmp_path / 'prices']
    return lambda *args: call(file, *fixed, '--ratios', '1', '0.5', *args)


def test_a_budget_of_weights_becomes_a_config_that_trains(plan, tmp_path):
    out, figure = tmp_path / 'planned.py', tmp_path / 'frontier.svg'
    status, said, _ = plan('--max-params', '1200', '--out', out, '--frontier', figure)
    assert status == 0
    content = json.loads(out.with_suffix('.json').read_text())
    assert content['plan']['params'] <= 1200 and content['priced'] > 0
    assert f'{content["plan"]["params"]:,} weights' in said and figure.stat().st_size > 1000
    cfg = Config.fromfile(out)
    assert cfg.model.recipe == content['plan']['recipe']
    tiny.run(cfg, tmp_path / 'run')
    student = load_student(str(tmp_path / 'run' / 'student.pth'))
    assert sum(p.numel() for n, p in student.named_parameters() if p.ndim == 4) == content['plan']['params']
    assert differing(tensors(student), tiny.weights(tmp_path / 'run')) == []
    status, _, _ = plan('--max-params', '900', '--out', tmp_path / 'second.py')
    assert status == 0
    again = json.loads((tmp_path / 'second.json').read_text())
    assert again['priced'] == 0 and again['plan']['params'] <= 900
    assert again['plan']['predicted_loss'] >= content['plan']['predicted_loss']


def test_recipes_made_by_hand_are_drawn_beside_the_frontier(plan, tmp_path):
    """The config's own, all convolutions, and another one; the solver's choice loses no more at the same latency."""
    figure, other = tmp_path / 'frontier.svg', tmp_path / 'narrow.py'
    narrow = [dict(source='backbone.layer1.0', target=dict(type='ConvBlock', width_ratio=0.5))]
    write(config(recasting(recipe=narrow), STAGES), other)
    status, said, _ = plan('--max-params', '1200', '--out', tmp_path / 'p.py', '--frontier', figure, '--beside', other)
    assert status == 0
    told = dict(re.findall(r'^\S*?(given|narrow)(?:\.py)?: .* predicted loss ([\d.]+)$', said, re.MULTILINE))
    assert set(told) == {'given', 'narrow'} and all(float(loss) > 0 for loss in told.values())
    content = json.loads((tmp_path / 'p.json').read_text())
    assert set(content['beside']) == {'given', 'narrow'} and len(content['frontier']) == 10
    assert '<!-- given -->' in figure.read_text() and '<!-- narrow -->' in figure.read_text()
    write(config(recasting(recipe=[dict(narrow[0], target=dict(type='ConvBlock', width_ratio=0.3))]), STAGES), other)
    status, _, err = plan('--max-params', '1200', '--frontier', figure, '--beside', other)
    assert status == 2 and "'backbone.layer1.0' as the recipe has it (ConvBlock 4→1) is none of the candidates" in err


def test_plans_are_put_together_and_judged_by_accuracy(plan, tmp_path):
    """One of the frontier, the recipe beside it, and the plan itself against an accuracy that only training brings."""
    figure, out = tmp_path / 'frontier.svg', tmp_path / 'p.py'
    args = ['--max-params', '1200', '--out', out, '--frontier', figure, '--beside', '--real', '1', '--points', '3']
    status, said, err = plan(*args, '--min-top1', '99.5', '--test-images', '40')
    assert status == 0, err
    content = json.loads(out.with_suffix('.json').read_text())
    assert {name: len(own) for name, own in content['real'].items()} == dict(plans=1, given=1)
    for own in content['real'].values():
        assert own[0]['loss'] > 0 and own[0]['top1'] <= 100 and own[0]['ms'] > 0
        assert own[0]['top1'] % 2.5 == pytest.approx(0)  # of 40 images
    assert content['teacher_top1'] % 2.5 == pytest.approx(0) and content['top1'] <= content['teacher_top1']
    assert 'given, put together: ' in said and 'top-1, %' in figure.read_text()
    told = rf'UNDER ACCURACY by {99.5 - content["top1"]:.2f} points, which training must bring: '
    assert re.search(told, said) and f'teacher {content["teacher_top1"]:.2f}' in said
    status, said, err = plan('--max-params', '1200', '--out', out, '--min-top1', '1', '--test-images', '40')
    assert status == 0 and 'UNDER' not in said and 'by closed forms alone, 1 asked for' in said


def test_blocks_of_the_recipe_and_those_that_are_named_are_tried(plan, tmp_path):
    """The recipe has one that is no candidate else; its widths are not taken over."""

    def kinds(*args):
        assert plan('--max-params', '1200', '--out', tmp_path / 'p.py', *args)[0] == 0
        return {rule['target']['type'] for rule in Config.fromfile(tmp_path / 'p.py').model.recipe}

    target = dict(type='StackedBlocks', block='ConvBlock', depth=2, width_ratio=0.5)
    given = Config.fromfile(tmp_path / 'given.py')
    given.model.recipe = [dict(source='backbone.layer1.0', target=target)]
    write(given, tmp_path / 'given.py')
    assert kinds('--targets', 'ConvBlock') == {'ConvBlock'}
    from mmrecast.planning.from_config import targets_with

    found = targets_with(given.model.recipe)
    assert found[-1] == dict(type='StackedBlocks', block='ConvBlock', depth=2) and len(found) == 7
    assert targets_with([dict(source='a', target='mmrecast.ConvBlock')]) == found[:-1]
    status, _, err = plan('--max-params', '1200', '--targets', 'ConvBlok')
    assert status == 2 and "'ConvBlok' is not registered" in err and 'ConvBlock' in err


def test_blocks_that_are_trained_apart_keep_the_widths_between_them(plan, tmp_path):
    """What is written trains: a block behind a narrowed one would be refused."""
    out = tmp_path / 'p.py'
    status, _, err = plan('--max-params', '1200', '--out', out, '--cfg-options', 'model.block_input=teacher')
    assert status == 0 and "block_input='teacher' keeps the widths between blocks" in err
    cfg = Config.fromfile(out)
    assert cfg.model.block_input == 'teacher'
    widths = {rule['target']['out_channels'] for rule in cfg.model.recipe}
    assert cfg.model.recipe and widths <= {4, 6, 8}
    tiny.run(cfg, tmp_path / 'run')


def test_a_plan_over_its_budget_is_said_to_be(plan, tmp_path, monkeypatch, tool):
    from dataclasses import replace

    planned = tool.Planner.plan
    monkeypatch.setattr(
        tool.Planner, 'plan', lambda self, *args: replace(planned(self, *args), over=dict(ms=1.05, acts=1.002))
    )
    status, said, _ = plan('--max-params', '1200', '--out', tmp_path / 'p.py')
    assert status == 0
    assert 'OVER BUDGET: 5.0% too much latency\nOVER BUDGET: 0.2% too much activation load\n' in said
    assert json.loads((tmp_path / 'p.json').read_text())['plan']['over'] == dict(ms=1.05, acts=1.002)


def test_several_budgets_are_several_configs(plan, tmp_path, monkeypatch, tool):
    """The speed-ups are limits on weights here: latencies of so small networks are mostly noise."""
    budgets, planned = {1.5: 1500, 2.0: 1200}, tool.Planner.plan
    monkeypatch.setattr(tool.Planner, 'plan', lambda self, speedup, *_: planned(self, max_params=budgets[speedup]))
    status, said, err = plan('--target-speedup', '1.5', '2', '--out', tmp_path / 'planned.py')
    assert status == 0, err
    for name, budget in (('planned_1.5x', 1500), ('planned_2x', 1200)):
        content = json.loads((tmp_path / f'{name}.json').read_text())
        assert content['plan']['params'] <= budget and content['seconds'] > 0
        assert Config.fromfile(tmp_path / f'{name}.py').model.recipe == content['plan']['recipe']
        assert f'now: python tools/train.py {tmp_path / name}.py' in said
    assert not (tmp_path / 'planned.py').exists()


def test_plans_that_are_ranked_are_judged(plan, tmp_path):
    status, _, _ = plan('--max-mults', '25000', '--ranked', '3', '--out', tmp_path / 'planned.py')
    assert status == 0
    found = json.loads((tmp_path / 'planned.json').read_text())['plan']
    assert found['mults'] <= 25000 and found['loss'] > 0


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([], 'no budget: give a speed-up'),
        (['--max-params', '10'], r'10 params asked for, \d+ params is the least; allow more targets'),
        (['--target-speedup', '1000'], r'times as fast as the teacher\) is the least'),
        (['--target-speedup', '0.01'], 'the teacher is within the budget already .*: nothing needs to be recast'),
        (['--target-speedup', '-1'], 'speedup must be a number above 0, got -1.0'),
        (['--max-params', '1200', '--device', 'cuda'], 'PyTorch sees no GPU here'),
        (['--max-params', '1200', '--device', 'tpu'], "device must be 'cpu'"),
        (['--max-params', '1200', '--ratios', '3'], 'a ratio of widths must be above 0 and at most 1'),
        (['--max-acts', '10'], r'10 acts asked for, [\d,]+ acts is the least'),
        (['--max-params', '1200', '--images', '0'], '--images, --test-images, --ranked and --jobs must be at least 1'),
        (['--max-params', '1200', '--real', '2'], '--real draws on the figure of --frontier: give that, too'),
        (['--max-params', '1200', '--real', '-2'], '--real must be at least 0, --min-top1 above 0 and at most 100'),
        (['--max-params', '1200', '--min-top1', '0'], '--real must be at least 0, --min-top1 above 0 and at most 100'),
        (
            ['--max-params', '1200', '--min-top1', '9', '--cfg-options', 'val_dataloader=None'],
            'the config has no val_dataloader: accuracy cannot be measured',
        ),
        (['--max-params', '1200', '--out', 'plan.json'], 'must end in .py: it is a config'),
        (['--max-params', '1200', '--beside'], '--beside draws on the figure of --frontier: give that, too'),
    ],
)
def test_mistakes(plan, args, message, monkeypatch):
    if '--device' in args:
        monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    status, _, err = plan(*args)
    assert status == 2
    assert re.search(message, err), err


def test_what_is_chosen_is_trained_alone_once_and_starts_the_recasting(plan, tmp_path):
    out, options = tmp_path / 'planned.py', ['--max-params', '1200', '--images', '16', '--train-images', '20']
    status, _, err = plan(*options, '--out', out)
    assert status == 0, err
    content, cfg = json.loads(out.with_suffix('.json').read_text()), Config.fromfile(out)
    assert 'trained alone (1 of ' in err
    chosen = {one['block']: one['trained'] for one in content['blocks'] if one['trained']}
    assert set(cfg.model.trained_blocks) <= set(chosen) == {rule['source'] for rule in cfg.model.recipe}
    assert cfg.model.trained_blocks and all(one['images'] == 20 for one in chosen.values())
    assert all(one['error'] <= one['error_start'] for one in chosen.values())
    assert content['plan']['predicted_loss'] == pytest.approx(sum(o['loss'] + 1e-6 for o in chosen.values()), rel=1e-6)
    warm = cfg.model.trained_blocks
    for stage in tiny.run(cfg, tmp_path / 'run')['stages'][:-1]:
        assert (stage['start_images'] == 0) == (stage['name'].split()[-1] in warm)
    status, _, err = plan(*options, '--out', tmp_path / 'again.py')
    assert status == 0 and 'trained alone' not in err
    again = json.loads((tmp_path / 'again.json').read_text())['plan']
    same = ('recipe', 'params', 'mults', 'predicted_loss')
    assert [again[name] for name in same] == [content['plan'][name] for name in same]


def test_several_processes_train_the_same_as_one(plan, tmp_path):
    blocks = []
    for jobs in ('1', '2'):
        args = ['--max-params', '1200', '--images', '16', '--train-images', '20', '--jobs', jobs]
        args += ['--cache', tmp_path / f'cache{jobs}']
        status, _, err = plan(*args, '--out', tmp_path / f'planned{jobs}.py')
        assert status == 0, err
        found = json.loads((tmp_path / f'planned{jobs}.json').read_text())['blocks']
        blocks.append([one['trained'] and one['trained'] | dict(seconds=0, file='') for one in found])
    assert blocks[0] == blocks[1] and any(blocks[0])
