import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock as TorchvisionBasicBlock

from mmrecast.blocks import BasicBlock, Bottleneck, ConvBlock
from mmrecast.surgery import closed_form
from mmrecast.surgery.closed_form import LeastSquares, pre_relu_output, solve_block


def patches_by_hand(x, kernel, stride, padding):
    """Gather the patches of (N, C, H, W) with loops: (positions, C * k * k), images first, then rows."""
    x = np.pad(x.double().numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows = []
    for image in x:
        for i in range(0, image.shape[1] - kernel + 1, stride):
            for j in range(0, image.shape[2] - kernel + 1, stride):
                rows.append(image[:, i : i + kernel, j : j + kernel].flatten())
    return np.array(rows)


def rows_of(y):
    return np.array([image[:, i, j] for image in y for i in range(y.shape[2]) for j in range(y.shape[3])])


def direct_solution(u, y, ridge):
    """Solve min ‖U W − Y‖² + n ρ ‖W‖² on centred data by lstsq with the penalty as further rows."""
    mean_u, mean_y = u.mean(0), y.mean(0)
    n, inputs = u.shape
    damping = ridge * ((u - mean_u) ** 2).mean()
    rows = np.concatenate([u - mean_u, (n * damping) ** 0.5 * np.eye(inputs)])
    weight = np.linalg.lstsq(rows, np.concatenate([y - mean_y, np.zeros((inputs, y.shape[1]))]), rcond=None)[0].T
    return weight, mean_y - weight @ mean_u


def data(c_in, c_out, size=6, stride=1, n=12):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, c_in, size, size, generator=generator) + 0.5
    mix = torch.randn(c_out, c_in, 3, 3, generator=generator)
    y = F.conv2d(x, mix, stride=stride, padding=1)
    return x, y + torch.randn(y.shape, generator=generator) + 2


@pytest.mark.parametrize(('ridge', 'stride', 'kernel'), [(0, 1, 3), (1e-2, 1, 3), (0.5, 2, 3), (1e-4, 2, 1), (0, 1, 5)])
def test_solution_equals_a_direct_one(ridge, stride, kernel):
    x, y = data(3, 4, stride=stride, n=24)
    block = ConvBlock(3, 4, stride, kernel)
    solve_block(block.conv, block.bn, iter([(x[:7], y[:7]), (x[7:], y[7:])]), ridge)
    u = patches_by_hand(x, kernel, stride, kernel // 2)
    weight, bias = direct_solution(u, rows_of(y.double().numpy()), ridge)
    np.testing.assert_allclose(block.conv.weight.detach().flatten(1).numpy(), weight, atol=1e-5)

    found = u @ weight.T
    np.testing.assert_allclose(block.bn.running_mean.numpy(), found.mean(0), atol=1e-4)
    np.testing.assert_allclose(block.bn.running_var.numpy(), found.var(0), rtol=1e-4)
    assert block.bn.num_batches_tracked == 0

    # In eval mode the BN passes the solution through: W u + b.
    with torch.no_grad():
        out = block.eval().bn(block.conv(x))
        assert torch.equal(block(x), out.relu())
    np.testing.assert_allclose(rows_of(out.numpy()), found + bias, atol=1e-4)


def test_without_ridge_the_bias_column_gives_the_same():
    x, y = data(2, 3)
    block = ConvBlock(2, 3)
    solve_block(block.conv, block.bn, iter([(x, y)]), 0)
    u = patches_by_hand(x, 3, 1, 1)
    solution = np.linalg.lstsq(np.c_[u, np.ones(len(u))], rows_of(y.double().numpy()), rcond=None)[0]
    np.testing.assert_allclose(block.conv.weight.detach().flatten(1).numpy(), solution[:-1].T, atol=1e-5)
    with torch.no_grad():
        out = block.eval().bn(block.conv(x))
    np.testing.assert_allclose(rows_of(out.numpy()), np.c_[u, np.ones(len(u))] @ solution, atol=1e-4)


def test_the_parts_of_a_batch_do_not_matter(monkeypatch):
    x, y = data(3, 4)
    one, other = ConvBlock(3, 4), ConvBlock(3, 4)
    solve_block(one.conv, one.bn, iter([(x, y)]), 1e-3)
    monkeypatch.setattr(closed_form, '_CHUNK', 1)  # one image at a time
    solve_block(other.conv, other.bn, iter([(x[:5], y[:5]), (x[5:], y[5:])]), 1e-3)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value)


@pytest.mark.parametrize('kwargs', [dict(padding='same', dilation=2), dict(padding=1, padding_mode='reflect'), dict()])
def test_other_paddings_are_those_of_the_convolution(kwargs):
    torch.manual_seed(0)
    truth = nn.Conv2d(3, 4, 3, **kwargs)
    conv, norm = nn.Conv2d(3, 4, 3, **kwargs), nn.BatchNorm2d(4)
    x = torch.randn(16, 3, 6, 6)
    with torch.no_grad():
        solve_block(conv, norm, iter([(x, truth(x))]), 0)
        torch.testing.assert_close(norm.eval()(conv(x)), truth(x), atol=1e-4, rtol=0)
    assert not conv.bias.any()


def test_what_cannot_be_solved():
    with pytest.raises(ValueError, match='the closed-form start needs at least 2 positions, got 0'):
        LeastSquares(3, 2).solve(0.1)
    sums = LeastSquares(3, 2)
    sums.add(torch.tensor([[1.0, 2, 3], [float('nan'), 0, 0]]), torch.zeros(2, 2))
    with pytest.raises(ValueError, match='the closed-form start met activations that are not finite'):
        sums.solve(0.1)


def test_a_constant_input_gives_the_mean():
    block = ConvBlock(3, 4)
    y = torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    solve_block(block.conv, block.bn, iter([(torch.zeros(8, 3, 5, 5), y)]), 1e-4)
    out = block.eval()(torch.zeros(1, 3, 5, 5))
    torch.testing.assert_close(out[0, :, 0, 0], y.mean((0, 2, 3)).relu(), atol=1e-5, rtol=0)


@pytest.mark.parametrize('scale', [1, 1e4])
def test_dependent_inputs_need_no_ridge(scale):
    """Two equal channels and a dead one leave the covariance without full rank; the fit is that of one channel."""
    x, y = data(1, 4)
    x = torch.cat([x, x, 0 * x], 1) * scale
    block = ConvBlock(3, 4)
    solve_block(block.conv, block.bn, iter([(x, y)]), 0)
    u = patches_by_hand(x[:, :1], 3, 1, 1)
    weight, bias = direct_solution(u, rows_of(y.double().numpy()), 0)
    with torch.no_grad():
        out = block.eval().bn(block.conv(x))
    np.testing.assert_allclose(rows_of(out.numpy()), u @ weight.T + bias, atol=1e-3)


class NoReLU(nn.Module):
    """Ends with a sum, as a block of a pre-activation network does; begins with a ReLU in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(F.relu(x, inplace=True)) - 1


def residual_sum(block, x, shortcut):
    out = block.bn1(block.conv1(x)).relu()
    return block.bn2(block.conv2(out)) + shortcut(x)


def test_before_the_last_relu():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    theirs = TorchvisionBasicBlock(4, 4).eval()  # one ReLU, in place, used twice
    ours = BasicBlock(4, 4).eval()
    with torch.no_grad():
        for block in (theirs, ours):
            expected = residual_sum(block, x, lambda x: x)
            found = pre_relu_output(block, x)
            torch.testing.assert_close(found, expected)
            assert found.min() < 0 and torch.equal(found.relu(), block(x))


@pytest.mark.parametrize('relu', [nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, torch.relu_, F.relu_])
def test_every_form_of_relu_is_seen(relu):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = relu if isinstance(relu, nn.Module) else (lambda x: relu(x))

        def forward(self, x):
            return self.relu(x * 2)

    x = torch.randn(2, 3)
    assert torch.equal(pre_relu_output(Block(), x), x * 2)


def test_methods_and_what_follows_without_effect():
    x = torch.randn(2, 3)
    assert torch.equal(pre_relu_output(type('M', (nn.Module,), dict(forward=lambda s, x: (x + 1).relu()))(), x), x + 1)
    block = nn.Sequential(nn.ReLU(), nn.Dropout()).eval()
    assert torch.equal(pre_relu_output(block, x), x)


def test_without_a_last_relu_the_output_comes_and_the_input_stays():
    torch.manual_seed(0)
    block, x = NoReLU(), torch.randn(2, 4, 6, 6)
    kept = x.clone()
    found = pre_relu_output(block, x)
    assert torch.equal(x, kept)
    assert torch.equal(found, block(kept).detach())
    inner = Bottleneck(4, 16).eval()
    inner.relu = nn.Identity()
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(pre_relu_output(inner, x), inner(x).detach()) and not pre_relu_output(inner, x).requires_grad
