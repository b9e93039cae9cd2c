"""What one optimiser step of each stage changes, and that it changes nothing else."""

import pytest
import torch
from mmengine.hooks import Hook
from tiny import CHAIN, NO_TEST, STEM, classifier, config, differing, recasting, run, tensors
from torch import nn

from mmrecast.apis import ready_runner
from mmrecast.registry import HOOKS
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

ONE_STEP = [dict(kind='recast', iters=1), dict(kind='finetune', iters=1)]
SEEN: list[dict] = []


@HOOKS.register_module()
class Watch(Hook):
    """Note, for every stage, what the optimiser holds and what its first step changes."""

    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        model = runner.bare_model
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = runner.optim_wrapper.optimizer.param_groups
        norms = {n: m for n, m in model.student.named_modules() if isinstance(m, nn.BatchNorm2d)}
        SEEN.append(
            dict(
                block=runner.train_loop.stage.block,
                held={names[id(parameter)] for group in groups for parameter in group['params']},
                norms={name for name, module in norms.items() if module.training},
                before=tensors(model),
                teacher=tensors(model.teacher),
                parameters=set(dict(model.named_parameters())),
            )
        )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        SEEN[-1]['changed'] = set(differing(SEEN[-1]['before'], tensors(runner.bare_model)))
        assert not any(module.training for module in runner.bare_model.teacher.modules())
        assert differing(SEEN[-1].pop('teacher'), tensors(runner.bare_model.teacher)) == []


def watched(tmp_path, stages=ONE_STEP, **options) -> list[dict]:
    """Run every stage for one step and return what was seen."""
    SEEN.clear()
    teacher = options.pop('teacher', classifier(depth=14))
    run(config(recasting(teacher, **options), stages, hooks=[dict(type='Watch')], **NO_TEST), tmp_path)
    return list(SEEN)


def inside(name: str, paths: list[str]) -> bool:
    return any(name.startswith(f'student.{path}.') for path in paths)


def expected(block: str | None, options: dict) -> tuple[list[str], bool]:
    """Return the paths that train in the stage of ``block`` by the definition, and whether the head does."""
    if block is None:
        return STEM + CHAIN, True
    k = CHAIN.index(block)
    last = k if options.get('compare') == 'target' else k + 1
    earlier = options.get('earlier', 'all')
    first = 0 if earlier == 'all' or earlier > k else k - earlier
    stem = STEM if earlier == 'all' or earlier > k else []
    if options.get('block_input') == 'teacher':
        first, stem = k, []
    if options.get('next_block') == 'frozen':
        last = k
    return stem + CHAIN[first : last + 1], last == len(CHAIN)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(next_block='teacher', earlier=0),
        dict(next_block='frozen'),
        dict(next_block='frozen', earlier=1, source=['backbone.layer1.1', 'backbone.layer2.1', 'backbone.layer3.1']),
        dict(earlier=2, source=['backbone.layer1.0', 'backbone.layer3.*']),
        dict(block_input='teacher'),
        dict(compare='target'),
        dict(compare='target', block_input='teacher', next_block='teacher'),
    ],
    ids=str,
)
def test_exactly_the_prefix_trains(tmp_path, options):
    """From the stem (or the first block that trains) to block k+1: parameters, buffers, modes and the optimiser."""
    seen = watched(tmp_path, **options)
    for stage in seen:
        paths, head = expected(stage['block'], options)
        names = {name for name in stage['before'] if inside(name, paths) or (head and name.startswith('student.head.'))}
        assert stage['held'] == names & stage['parameters'], stage['block']
        assert stage['changed'] == names, stage['block']
        assert stage['norms'] == {
            name.removeprefix('student.').rpartition('.')[0] for name in names if 'running_mean' in name
        }
    assert len(seen) == (4 if 'source' in options else 7)


def test_narrowed_targets(tmp_path):
    """What is rebuilt trains although 'frozen' was asked for; what comes after it does not."""
    teacher = classifier(depth=11, block='bottleneck', widths=(2, 3, 4))
    blocks = [f'backbone.layer{n}.0' for n in (1, 2, 3)]
    seen = watched(tmp_path, teacher=teacher, next_block='frozen')
    assert [stage['block'] for stage in seen] == [*blocks, None]
    for k, stage in enumerate(seen[:3]):
        names = {name for name in stage['before'] if inside(name, STEM + blocks[: k + 2])}
        names |= {'student.head.fc.weight', 'student.head.fc.bias'} if k == 2 else set()
        assert (stage['held'], stage['changed']) == (names & stage['parameters'], names)


def test_connector_trains_with_its_stage_only(tmp_path):
    teacher = classifier(depth=11, block='bottleneck', widths=(2, 3, 4))
    connector = dict(type='ConvModuleConnector', norm_cfg=dict(type='BN'), act_cfg=None)
    seen = watched(tmp_path, teacher=teacher, compare='target', connector=connector)
    for stage in seen[:-1]:
        own = {name for name in stage['before'] if name.startswith('connector.')}
        assert any(name.endswith('weight') for name in own)
        blocks = [f'backbone.layer{n}.0' for n in range(1, int(stage['block'][14]) + 1)]
        names = own | {name for name in stage['before'] if inside(name, STEM + blocks)}
        assert (stage['held'], stage['changed']) == (names & stage['parameters'], names)
    assert not any(name.startswith('connector.') for name in seen[-1]['before'])


def test_gradients_of_an_earlier_stage_are_gone(tmp_path):
    """Weight decay and momentum act on nothing that is frozen, although it once had gradients."""
    sgd = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.1))
    stages = [dict(kind='finetune', iters=2), dict(kind='recast', iters=1, optim_wrapper=sgd)]
    first = watched(tmp_path, stages, earlier=0, next_block='frozen')[2]
    assert first['block'] == CHAIN[0]
    assert {name.split('.')[3] for name in first['changed']} == {'0'} and all(CHAIN[0] in n for n in first['changed'])


def test_teacher_is_the_same_after_a_run(tmp_path, trained_teacher):
    """Also one with BatchNorm: its running statistics would show a single pass in training mode."""
    stages = [dict(kind='recast', iters=3), dict(kind='finetune', iters=3)]
    runner = ready_runner(config(recasting(teacher_ckpt=trained_teacher), stages), work_dir=str(tmp_path))
    before = tensors(runner.bare_model.teacher)
    assert differing(before, torch.load(trained_teacher)) == []
    runner.train()
    assert differing(before, tensors(runner.bare_model.teacher)) == []
    content = load_file((tmp_path / 'last_checkpoint').read_text())
    assert all(name.startswith('student.') for name in content['state_dict'])
    assert set(content) & {'teacher', 'ema_state_dict'} == set()
