import copy

import pytest
import torch
from torch import nn

from mmrecast.blocks import BasicBlock, Bottleneck, ConvBlock, DepthwiseSeparable
from mmrecast.models import build_network
from mmrecast.registry import BLOCKS
from mmrecast.surgery.apply import apply_step, check_plan, replay
from mmrecast.surgery.chain import find_chain
from mmrecast.surgery.plan import make_plan

CONV = dict(type='ConvBlock')
TARGETS = dict(ConvBlock=ConvBlock, BasicBlock=BasicBlock, Bottleneck=Bottleneck, DepthwiseSeparable=DepthwiseSeparable)


def rule(source, target=CONV, **kwargs):
    return dict(source=source, target=dict(target, **kwargs))


def student_of(net, recipe, shape):
    plan = make_plan(net, recipe, shape)
    return check_plan(copy.deepcopy(net), plan), plan


@pytest.mark.parametrize(
    ('depth', 'block', 'shortcut'),
    [(56, 'basic', 'A'), (56, 'basic', 'B'), (83, 'bottleneck', 'A'), (83, 'bottleneck', 'B')],
)
def test_published_counts_on_cifar(toys, conv_weights, depth, block, shortcut):
    net = build_network(toys.cifar(depth, block, shortcut))
    student, plan = student_of(net, [rule('backbone.layer*.*')], (3, 32, 32))
    convs = [m for m in student.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 28
    assert [m.out_channels for m in convs] == [16] + 9 * [16] + 9 * [32] + 9 * [64]
    assert conv_weights(student) == 432 + 9 * 2304 + 4608 + 8 * 9216 + 18432 + 8 * 36864 == 412_848
    assert [e.target['stride'] for e in plan.entries] == 9 * [1] + [2] + 8 * [1] + [2] + 8 * [1]


def test_published_count_of_resnet50(conv_weights):
    net = build_network(dict(type='TorchvisionClassifier', name='resnet50'))
    student, plan = student_of(net, [rule('layer*.*')], (3, 64, 64))
    assert conv_weights(student, classifier=True) == 10_290_368
    assert [e.out_channels for e in plan.entries] == 3 * [64] + 4 * [128] + 6 * [256] + 3 * [512]
    assert student.fc.in_features == 512 and student.fc.out_features == 1000
    assert student(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)


@pytest.mark.parametrize('target', TARGETS)
def test_every_target_replaces_every_librarys_blocks(library_net, target):
    net, shape, pattern = library_net
    before = {k: v.clone() for k, v in net.state_dict().items()}
    stage = pattern.removesuffix('*.*')
    recipe = [rule([f'{stage}1.1', f'{stage}2.0'], type=target), rule(f'{stage}3.0', type=target)]
    student, plan = student_of(net, recipe, shape)
    for entry in plan.entries:
        block, old = student.get_submodule(entry.path), net.get_submodule(entry.path)
        assert type(block) is (TARGETS[target] if entry.action == 'recast' else type(old))
        narrowed = target == 'ConvBlock' and entry.source.kind == 'bottleneck' and entry.action == 'recast'
        assert entry.out_channels == (entry.source.mid_channels if narrowed else entry.out_shape[0])
        convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
        assert convs[0].in_channels == entry.in_channels
    assert student(torch.randn(2, *shape)).shape == (2, 5)
    assert not any(m.training for m in student.modules())
    after = net.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(v, after[k]) for k, v in before.items())
    assert find_chain(student, shape).paths == find_chain(net, shape).paths  # can be recast again


@pytest.mark.parametrize('target', TARGETS)
def test_every_target_replaces_every_target(target):
    for source in TARGETS.values():
        net = nn.Sequential(
            nn.Conv2d(3, 8, 1), source(8, 8), source(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
        )  # fmt: skip
        student, _ = student_of(net, [rule('1', type=target, width_ratio=0.5)], (3, 8, 8))
        assert type(student[1]) is TARGETS[target] and type(student[2]) is source
        assert student(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


def test_a_student_is_recast_again(toys):
    net = build_network(toys.cifar(29, 'bottleneck', 'A', widths=(4, 8, 16)))
    first, _ = student_of(net, [rule('backbone.layer*.*', type='BasicBlock')], (3, 16, 16))
    second, plan = student_of(first, [rule('backbone.layer*.*', width_ratio=0.5)], (3, 16, 16))
    assert {e.source.kind for e in plan.entries} == {'basic'}
    third, plan = student_of(second, [rule('backbone.layer1.*', type='DepthwiseSeparable')], (3, 16, 16))
    assert [(e.source.kind, e.action) for e in plan.entries] == 3 * [('conv', 'recast')] + 6 * [('conv', 'keep')]
    assert [e.out_channels for e in plan.entries] == [8, 8, 8, 16, 16, 16, 32, 32, 32]
    assert third(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_a_mixed_recipe_step_by_step(toys):
    """Bottlenecks 1 and 2 of layer1 become convolutions of width 4, the others stay: the next gets a projection."""
    torch.manual_seed(0)
    net = build_network(toys.cifar(29, 'bottleneck', 'A', widths=(4, 8, 16))).train()
    plan = make_plan(net, [rule(['backbone.layer1.0', 'backbone.layer1.1'])], (3, 16, 16))
    student = copy.deepcopy(net)
    layer1 = student.backbone.layer1
    assert apply_step(student, plan, 0) == ['backbone.layer1.0', 'backbone.layer1.1']
    assert isinstance(layer1[0], ConvBlock) and isinstance(layer1[1], Bottleneck) and layer1[0].training
    assert layer1[0].conv.weight.shape == (4, 4, 3, 3) and layer1[1].conv1.in_channels == 4
    conv, norm = layer1[1].shortcut
    assert conv.weight.shape == (16, 4, 1, 1) and isinstance(norm, nn.BatchNorm2d)
    assert apply_step(student, plan, 1) == ['backbone.layer1.1', 'backbone.layer1.2']
    assert isinstance(layer1[1], ConvBlock) and isinstance(layer1[2], Bottleneck)
    assert layer1[2].conv1.in_channels == 4 and isinstance(layer1[2].shortcut, nn.Sequential)
    untouched = {k: v for k, v in net.state_dict().items() if 'layer1' not in k}
    assert all(torch.equal(v, student.state_dict()[k]) for k, v in untouched.items())
    kept = net.state_dict()['backbone.layer1.2.conv2.weight']
    assert torch.equal(student.state_dict()['backbone.layer1.2.conv2.weight'], kept)
    assert all(m.training for m in student.modules())
    assert student(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_where_the_width_stays_nothing_else_changes(toys):
    net = build_network(toys.cifar(20, widths=(4, 8, 16)))
    student = copy.deepcopy(net)
    plan = make_plan(net, [rule('backbone.layer1.1')], (3, 16, 16))
    assert apply_step(student, plan, plan.steps[0]) == ['backbone.layer1.1']
    before, after = net.state_dict(), student.state_dict()
    same = [k for k in before if not k.startswith('backbone.layer1.1.')]
    assert all(torch.equal(before[k], after[k]) for k in same)
    assert [k for k in after if k not in same] == [
        f'backbone.layer1.1.{k}' for k in student.backbone.layer1[1].state_dict()
    ]


@pytest.mark.parametrize(
    ('between', 'expected'),
    [
        ((nn.BatchNorm2d(4), nn.ReLU()), ['1', '2', '4']),
        ((nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), ['1', '3']),
        ((nn.BatchNorm2d(4, affine=False), nn.MaxPool2d(2)), ['1', '2', '4']),
    ],
)
def test_glue_is_fitted(between, expected):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), BasicBlock(4, 4), *between, ConvBlock(4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 5),
    )  # fmt: skip
    plan = make_plan(net, [rule('1', out_channels=6)], (3, 8, 8))
    student = check_plan(copy.deepcopy(net), plan)
    assert student(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert apply_step(net, plan, 0) == expected


@pytest.mark.parametrize(
    'head',
    [
        (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 5)),
        (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 5)),
        (nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
)
def test_the_head_takes_up_the_last_blocks_width(head):
    net = nn.Sequential(nn.Conv2d(3, 8, 1), BasicBlock(8, 8), *head)
    student, _ = student_of(net, [rule('1', out_channels=3)], (3, 8, 8))
    assert student(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


def test_the_same_plan_gives_the_same_structure_on_a_fresh_network(library_net):
    net, shape, pattern = library_net
    student, plan = student_of(net, [rule(pattern, width_ratio=0.5)], shape)
    fresh = replay(copy.deepcopy(net), plan)
    first, second = student.state_dict(), fresh.state_dict()
    assert first.keys() == second.keys()
    assert all(v.shape == second[k].shape for k, v in first.items())
    fresh.load_state_dict(first)
    x = torch.randn(2, *shape)
    assert torch.equal(student.eval()(x), fresh.eval()(x))


def test_a_block_held_under_two_names_is_replaced_under_both(toys):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = toys.Block(3, 3)
            self.all = nn.Sequential(self.first, nn.AdaptiveAvgPool2d(1), nn.Flatten())

        def forward(self, x):
            return self.all(x)

    student, _ = student_of(Twice(), [rule('first')], (3, 8, 8))
    assert isinstance(student.first, ConvBlock) and student.all[0] is student.first


def test_a_block_kept_out_of_reach_is_noticed(toys):
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = toys.Block(3, 3)
            self.order = [self.first]

        def forward(self, x):
            return self.order[0](x).mean((2, 3))

    net = Hidden()
    plan = make_plan(net, [rule('first')], (3, 8, 8))
    with pytest.raises(ValueError, match="block 'first' is not called once replaced: the network keeps the old one"):
        check_plan(net, plan)


def test_widths_that_nothing_takes_up_are_refused(toys):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), BasicBlock(4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    message = "the width of '1' would change from 4 to 2, but nothing behind it can take that up: keep the width"
    with pytest.raises(ValueError, match=message):
        student_of(net, [rule('1', out_channels=2)], (3, 8, 8))
    message = "block '2' behind '1': Block cannot be rebuilt for 2 input channels: register a describer for .*Block"
    with pytest.raises(ValueError, match=message) as caught:
        student_of(toys.sequential(), [rule('1', out_channels=2)], (3, 8, 8))
    assert '\n' not in str(caught.value)
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = nn.Sequential(nn.Conv2d(3, 4, 1), BasicBlock(4, 4), nn.GroupNorm(2, 4), BasicBlock(4, 4), *pool)
    with pytest.raises(ValueError, match="the recast network does not run in or behind block '1': .*"):
        student_of(net, [rule('1', out_channels=2)], (3, 8, 8))


@pytest.fixture
def own_blocks(monkeypatch):
    """Blocks that are wrong in one way each, registered meanwhile."""

    class Plain(nn.Module):
        def __init__(self, in_channels, out_channels, stride=1, kernel=3):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)

        def forward(self, x):
            return self.conv(x)

    class NoStride(Plain):
        def forward(self, x):
            return nn.functional.interpolate(self.conv(x), x.shape[2:])

    class Pair(Plain):
        def forward(self, x):
            return x, x

    class Crash(Plain):
        def forward(self, x, y):
            return x

    monkeypatch.setattr(BLOCKS, '_module_dict', dict(BLOCKS._module_dict))
    for cls in (NoStride, Pair, Crash):
        BLOCKS.register_module(module=cls)


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (dict(type='NoStride'), r"target NoStride of block 'backbone.layer2.0' gives \(8, 16, 16\) where \(8, 8, 8\)"),
        (dict(type='Pair'), r"target Pair of block 'backbone.layer2.0' gives tuple where \(8, 8, 8\) is needed"),
        (dict(type='Crash'), "the recast network does not run in or behind block 'backbone.layer2.0': .*argument: 'y'"),
        (dict(type='ConvBlock', foo=1), "the target of block 'backbone.layer2.0' cannot be built: .*argument 'foo'"),
        (dict(type='ConvBlock', kernel_size=2), 'cannot be built: .*kernel_size must be odd, got 2'),
        (dict(type='Bottleneck', out_channels=3), 'cannot be built: .*mid_channels must be a positive integer, got 0'),
        (dict(type='BasicBlock', out_channels=2, shortcut='pad'), "cannot be built: .*'pad' cannot take channels away"),
    ],
)
def test_targets_that_do_not_fit(toys, own_blocks, target, message):
    net = build_network(toys.cifar(8, widths=(4, 8, 16)))
    plan = make_plan(net, [rule('backbone.layer2.0', target)], (3, 16, 16))
    with pytest.raises(ValueError, match=message) as caught:
        check_plan(net, plan)
    assert '\n' not in str(caught.value)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_plan_for_another_network_is_refused(toys):
    plan = make_plan(build_network(toys.cifar(20, widths=(4, 8, 16))), [rule('backbone.layer1.*')], (3, 16, 16))
    message = "the plan does not fit ImageClassifier: .* has no module 'backbone.layer1.1' .nearest: backbone.layer1"
    with pytest.raises(ValueError, match=message):
        replay(build_network(toys.cifar(8, widths=(4, 8, 16))), plan)
