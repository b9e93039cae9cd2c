"""Whole targets: each must reach what it can, and the last layer must be that of a direct solution."""

import numpy as np
import pytest
import torch
from torch import nn

from mmrecast.blocks import (
    BasicBlock,
    Bottleneck,
    ConvBlock,
    DenseBlock,
    DepthwiseSeparable,
    PreActBasicBlock,
    StackedBlocks,
    TargetBlock,
)
from mmrecast.surgery.closed_form import Examples, parts_of, solvable_of, start_target, stops
from mmrecast.surgery.closed_form.code import codes, most_telling


def teacher_block(block):
    torch.manual_seed(1)
    for norm in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, 0, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.3)
    return block.eval()


@torch.no_grad()
def examples_of(block, channels, relu=True, n=40):
    """Return smooth images and what a block gives of them, before its last ReLU if it has one."""
    generator = torch.Generator().manual_seed(0)
    x = nn.functional.avg_pool2d(torch.randn(n, channels, 10, 10, generator=generator), 3, 1) * 3
    x = x.relu() if relu else x
    relu_of, block.relu = getattr(block, 'relu', None), nn.Identity()
    y = block(x)
    block.relu = relu_of
    return Examples([x[:30], x[30:]], [y[:30], y[30:]], relu)


def relative(found, y):
    return ((found - y).square().sum() / (y - y.mean((0, 2, 3), keepdim=True)).square().sum()).item()


TARGETS = {
    'ConvBlock': (ConvBlock, {}, 0.5),
    'BasicBlock': (BasicBlock, {}, 0.2),
    'BasicBlock of other inner width': (BasicBlock, dict(mid_channels=12), 0.2),
    'Bottleneck': (Bottleneck, dict(mid_channels=8), 0.5),
    'DepthwiseSeparable': (DepthwiseSeparable, {}, 0.8),
    'PreActBasicBlock': (PreActBasicBlock, {}, 0.5),
}


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('name', TARGETS)
@torch.no_grad()
def test_every_target_is_far_better_than_the_mean_and_says_how_good(name, stride):
    kind, options, limit = TARGETS[name]
    source = teacher_block(BasicBlock(6, 6, stride))
    examples = examples_of(source, 6)
    torch.manual_seed(2)
    target = kind(6, 6, stride, **options).train()
    start = start_target(target, [examples], 1e-4)
    assert target.training and all(m.training for m in target.modules())
    found = torch.cat([target.eval()(x) for x in examples.x])
    y = torch.cat(examples.y).relu()
    assert start.error == pytest.approx(relative(found, y), rel=1e-3)
    assert start.error < limit
    by_batch = target.train()(torch.cat(examples.x))
    torch.testing.assert_close(by_batch, found, atol=0.1 * y.std().item(), rtol=0.1)  # train mode agrees


@torch.no_grad()
def test_the_teachers_own_first_layer_gives_the_block_again():
    source = teacher_block(BasicBlock(5, 5, mid_channels=7))
    examples = examples_of(source, 5)
    target = BasicBlock(5, 5, mid_channels=7)
    start = start_target(target, [examples], 0, old=source)
    assert start.way == 'first layers: teacher' and start.error < 1e-5
    torch.testing.assert_close(target.eval()(examples.x[0]), source(examples.x[0]), atol=1e-2, rtol=0)


@torch.no_grad()
def test_of_too_many_filters_the_useful_ones_are_kept():
    """Three of the seven filters are read by nothing behind them; the four others suffice."""
    source = teacher_block(BasicBlock(5, 5, mid_channels=7))
    source.conv2.weight[:, [1, 2, 5]] = 0
    examples = examples_of(source, 5)
    target = BasicBlock(5, 5, mid_channels=4)
    start = start_target(target, [examples], 1e-8, old=source)
    assert start.error < 1e-4
    kept = [int((target.conv1.weight[i] - source.conv1.weight).abs().flatten(1).sum(1).argmin()) for i in range(4)]
    assert sorted(kept) == [0, 3, 4, 6]


@torch.no_grad()
def test_the_last_layer_is_a_direct_solution_on_the_hidden_maps():
    source = teacher_block(BasicBlock(4, 4))
    examples = examples_of(source, 4)
    target = DepthwiseSeparable(4, 4)
    start_target(target, [examples], 0)
    x, y = torch.cat(examples.x), torch.cat(examples.y)
    hidden = target.eval().bn1(target.depthwise(x)).relu()
    u = np.c_[hidden.transpose(0, 1).flatten(1).T.numpy(), np.ones(hidden[:, 0].numel())].astype(np.float64)
    direct = u @ np.linalg.lstsq(u, y.transpose(0, 1).flatten(1).T.double().numpy(), rcond=None)[0]
    found = target.bn2(target.pointwise(hidden)).transpose(0, 1).flatten(1).T
    np.testing.assert_allclose(found.numpy(), direct, atol=1e-3)


@pytest.mark.parametrize('may_lift', [True, False])
@torch.no_grad()
def test_a_signed_output_from_a_relu(may_lift):
    """Cut, half of the variance would be lost; lifted hardly any, scaled by channel at least not more than the mean."""
    source = teacher_block(BasicBlock(6, 6))
    examples = examples_of(source, 6, relu=False)
    mean = torch.cat(examples.y).mean((0, 2, 3), keepdim=True)
    examples.y = [y - mean + 0.1 for y in examples.y]
    target = ConvBlock(6, 6)
    start = start_target(target, [examples], 1e-4, may_lift=may_lift)
    y, found = torch.cat(examples.y), torch.cat([target.eval()(x) for x in examples.x])
    if may_lift:
        found = found - start.lifted.float()[:, None, None]
        assert start.error < 0.3
    else:
        assert start.lifted is None and start.error < 1
    assert start.error == pytest.approx(relative(found, y), rel=1e-3)


@pytest.mark.parametrize('kind', [ConvBlock, BasicBlock, PreActBasicBlock])
@pytest.mark.parametrize('mixing', [True, False])
@torch.no_grad()
def test_a_narrow_target_keeps_what_its_width_can_hold(kind, mixing):
    """The error is that of the best linear expansion; channels alone where what follows cannot mix."""
    source = teacher_block(BasicBlock(6, 6))
    examples = examples_of(source, 6)
    target = kind(6, 3)
    start = start_target(target, [examples], 1e-4, mixing=mixing)
    z = torch.cat([target.eval()(x) for x in examples.x]).transpose(0, 1).flatten(1).T.double().numpy()
    y = torch.cat(examples.y).relu().transpose(0, 1).flatten(1).T.double().numpy()
    u = np.c_[z, np.ones(len(z))]
    residual = ((u @ np.linalg.lstsq(u, y, rcond=None)[0] - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    assert start.error == pytest.approx(residual, rel=1e-3) and residual < 0.7
    assert (start.code.channels is None) <= mixing


def test_channels_are_chosen_by_what_they_tell_of_all():
    """Channels 1 and 4 generate the others."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(500, 2, generator=generator, dtype=torch.float64)
    y = torch.stack([0.1 * base[:, 0], 3 * base[:, 0], 0.2 * base[:, 1], 0.1 * base[:, 1], base[:, 1]], 1)
    y = y + 0.01 * torch.randn(y.shape, generator=generator, dtype=torch.float64)
    assert most_telling(torch.cov(y.T), 2) == [1, 4]
    examples = Examples([torch.zeros(500, 1, 1, 1)], [y[:, :, None, None].float()])
    names = [code.name for code in codes(examples, 2, relu=True, mixing=True)]
    assert names == ['channels', 'mixtures lifted by 1', 'mixtures lifted by 2', 'mixtures lifted by 3']


@torch.no_grad()
def test_a_stack_is_solved_block_by_block():
    """With the teacher's blocks in its place each block begins as the one that it stands for."""
    blocks = [teacher_block(BasicBlock(4, 4)) for _ in range(2)]
    first = examples_of(blocks[0], 4)
    middle = [y.relu() for y in first.y]
    second = Examples([], [pre_relu(blocks[1], x) for x in middle], True)
    target = StackedBlocks(4, 4, depth=2)
    start = start_target(target, [first, second], 0, old=nn.Sequential(*blocks))
    assert start.error < 1e-4
    torch.testing.assert_close(target.eval()(first.x[0]), blocks[1](middle[0]), atol=2e-2, rtol=0)


def pre_relu(block, x):
    return block.bn2(block.conv2(block.bn1(block.conv1(x)).relu())) + x


def test_where_the_blocks_of_a_stack_stand():
    assert stops(9, 3) == [2, 5, 8] and stops(5, 2) == [1, 4] and stops(3, 3) == [0, 1, 2]
    assert len(parts_of(StackedBlocks(4, 4, depth=3))) == 3 and len(parts_of(ConvBlock(4, 4))) == 1


class Told(TargetBlock):
    def __init__(self, told):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4, affine=False)
        self.told = told

    def solvable(self):
        return self.told(self)


@pytest.mark.parametrize(
    ('told', 'message'),
    [
        (lambda b: None, r'Told.solvable\(\) tells of no convolution that least squares could solve for'),
        (lambda b: b.conv, r'Told.solvable\(\) must give a Solvable with terms, or \(conv, norm\), got Conv2d'),
        (lambda b: (b.norm, b.conv), 'must pair a Conv2d with a BatchNorm2d or None, got BatchNorm2d and Conv2d'),
        (lambda b: (b.conv, b.norm), 'needs norms with weights and running statistics'),
        (lambda b: (b.conv, None), 'has a last convolution with groups, which is not solved for'),
    ],
)
def test_what_a_block_may_tell(told, message):
    with pytest.raises(ValueError, match=message):
        solvable_of(Told(told))


def test_a_dense_block_does_not_take_part():
    with pytest.raises(ValueError, match=r'DenseBlock.solvable\(\) tells of no convolution'):
        solvable_of(DenseBlock(4, 8, growth_rate=4))
