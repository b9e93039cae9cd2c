"""What is folded computes what the expansion followed by the teacher's module computes."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock as TorchvisionBasicBlock

from mmrecast.blocks import BasicBlock, Bottleneck, PreActBasicBlock
from mmrecast.surgery.closed_form.code import Code
from mmrecast.surgery.closed_form.fold import check_foldable, expand, fold
from mmrecast.surgery.describe import rebuild, refit
from mmrecast.surgery.spans import find_spans

CHANNELS, WIDTH = 6, 3


class Around(nn.Module):
    """A network of one block, so that it has a path."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x)


def expanded(constant):
    """Return z (N, 3, 6, 6) ≥ 0 and y = E z + e with E ≥ 0, in double precision."""
    generator = torch.Generator().manual_seed(1)
    z = torch.rand(40, WIDTH, 6, 6, generator=generator, dtype=torch.float64)
    matrix = torch.rand(CHANNELS, WIDTH, generator=generator, dtype=torch.float64)
    return z, torch.einsum('cm,nmhw->nchw', matrix, z) + constant


def trained(block):
    torch.manual_seed(0)
    for norm in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, 0, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, 0, 0.1)
    return block.double().eval()


def read_from(student, teacher, z, y):
    def seen(network, path, x):
        kept = []
        handle = network.get_submodule(path).register_forward_pre_hook(lambda m, a: kept.append(a[0].clone()))
        with torch.no_grad():
            network(x)
        handle.remove()
        return kept[0]

    return lambda path, teachers: [
        (seen(student, path, z[i : i + 20]), seen(teacher, teachers, y[i : i + 20])) for i in (0, 20)
    ]


def folded(block, z, y, code=None):
    teacher = Around(trained(block))
    student = Around(rebuild(teacher.block, WIDTH).eval())
    convs = [path for path, m in student.named_modules() if isinstance(m, nn.Conv2d)]
    spans = find_spans(student, convs, z[:2])
    code = code or Code('mixtures', torch.zeros(WIDTH, CHANNELS), torch.zeros(WIDTH))
    before = copy.deepcopy(teacher.state_dict())
    fold(student, teacher, ['block'], code, read_from(student, teacher, z, y), spans)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    with torch.no_grad():
        return student(z), teacher(y)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('kind', [BasicBlock, Bottleneck, TorchvisionBasicBlock])
def test_a_residual_block_goes_on_as_before(kind, stride):
    """An identity becomes the expansion, a projection is composed with it, option A's padding becomes a projection."""
    shortcuts = ['projection', 'pad'] if kind is not TorchvisionBasicBlock else [None]
    for shortcut in shortcuts:
        z, y = expanded(0)
        if kind is TorchvisionBasicBlock:
            down = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1, 2), nn.BatchNorm2d(CHANNELS)) if stride == 2 else None
            block = kind(CHANNELS, CHANNELS, stride, down)
        else:
            block = kind(CHANNELS, CHANNELS, stride, CHANNELS, shortcut)
        ours, theirs = folded(block, z, y)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_constant_goes_into_the_norm_exactly_behind_a_1x1_else_but_for_the_border():
    z, y = expanded(0.7)
    torch.testing.assert_close(*folded(Bottleneck(CHANNELS, CHANNELS, 1, CHANNELS), z, y), atol=1e-4, rtol=0)
    ours, theirs = folded(BasicBlock(CHANNELS, CHANNELS), z, y)
    torch.testing.assert_close(ours[:, :, 2:-2, 2:-2], theirs[:, :, 2:-2, 2:-2], atol=1e-4, rtol=0)
    assert not torch.allclose(ours, theirs, atol=1e-2)


def test_a_norm_in_front_keeps_the_rows_of_the_codes_channels():
    """The teacher's other channels copy these three; the code is shifted by 2, which the norm takes back."""
    z, _ = expanded(0)
    y = torch.cat([z, z], 1)
    block = PreActBasicBlock(CHANNELS, 5)
    for name in ('weight', 'bias', 'running_mean', 'running_var'):
        tensor = getattr(block.bn1, name)
        with torch.no_grad():
            tensor[3:] = tensor[:3]
    block = trained(block)
    with torch.no_grad():
        for tensor in (*block.bn1.parameters(), block.bn1.running_mean, block.bn1.running_var):
            tensor[3:] = tensor[:3]
    teacher = Around(block)
    student = Around(rebuild(block, WIDTH).eval())
    convs = [path for path, m in student.named_modules() if isinstance(m, nn.Conv2d)]
    code = Code('channels', torch.eye(CHANNELS)[:WIDTH], torch.full((WIDTH,), 2.0), (0, 1, 2))
    spans = find_spans(student, convs, z[:2])
    fold(student, teacher, ['block'], code, read_from(student, teacher, z + 2, y), spans)
    with torch.no_grad():
        torch.testing.assert_close(student(z + 2), teacher(y), atol=1e-4, rtol=0)
    torch.testing.assert_close(student.block.bn1.running_mean, block.bn1.running_mean[:3] + 2)


@pytest.mark.parametrize('positions', [1, 36])
def test_a_classifier_takes_the_expansion_up(positions):
    z, y = expanded(0.3)
    z, y = (a.mean((2, 3)) if positions == 1 else a.flatten(1) for a in (z, y))
    teacher = Around(nn.Linear(CHANNELS * positions, 4).double())
    student = Around(refit(teacher.block, WIDTH * positions))
    code = Code('mixtures', torch.zeros(WIDTH, CHANNELS), torch.zeros(WIDTH))
    fold(student, teacher, ['block'], code, read_from(student, teacher, z, y), {})
    with torch.no_grad():
        torch.testing.assert_close(student(z), teacher(y), atol=1e-4, rtol=0)


def test_expand_is_the_least_squares_solution():
    z, y = expanded(0.3)
    y = y + torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    matrix, constant = expand([(z[:7], y[:7]), (z[7:], y[7:])], WIDTH)
    u = torch.cat([z.transpose(0, 1).flatten(1).T, torch.ones(z[:, 0].numel(), 1, dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(u, y.transpose(0, 1).flatten(1).T).solution
    torch.testing.assert_close(matrix, solution[:-1].T, atol=1e-4, rtol=0)
    torch.testing.assert_close(constant, solution[-1], atol=1e-4, rtol=0)


def test_groups_of_channels_are_refused():
    teacher, student = Around(nn.Conv2d(8, 8, 3, groups=2)), Around(nn.Conv2d(4, 8, 3, groups=2))
    with pytest.raises(ValueError, match="into 'block', a convolution with 2 groups; use start='xavier'"):
        check_foldable(student, teacher, ['block'])
