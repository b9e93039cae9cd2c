import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrecast.blocks import BasicBlock, ConvBlock, PreActBasicBlock, Solvable
from mmrecast.surgery.closed_form import Examples, examples
from mmrecast.surgery.closed_form.last_layer import solve_last
from mmrecast.surgery.closed_form.parts import solvable_of


def solve(block, batches, ridge):
    """Solve a block that is one convolution for y as it is."""
    x, y = zip(*batches, strict=True) if batches else ((), ())
    return solve_last(block.eval(), solvable_of(block), Examples(list(x), list(y)), lambda y: y, ridge)


class OneConv(nn.Module):
    """A convolution and its BN."""

    def __init__(self, conv):
        super().__init__()
        self.conv, self.bn = conv, nn.BatchNorm2d(conv.out_channels)

    def solvable(self):
        return Solvable(terms=((self.conv, self.bn),))

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


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


def relative(found, y):
    y = rows_of(y.double().numpy())
    return ((found - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()


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
    fit = solve(block, [(x[:7], y[:7]), (x[7:], y[7:])], ridge)
    u = patches_by_hand(x, kernel, stride, kernel // 2)
    weight, bias = direct_solution(u, rows_of(y.double().numpy()), ridge)
    np.testing.assert_allclose(block.conv.weight.detach().flatten(1).numpy(), weight, atol=1e-5)

    found = u @ weight.T
    np.testing.assert_allclose(block.bn.running_mean.numpy(), found.mean(0), atol=1e-4)
    np.testing.assert_allclose(block.bn.running_var.numpy(), found.var(0), rtol=1e-4)
    assert block.bn.num_batches_tracked == 0

    residual = ((found + bias - rows_of(y.numpy())) ** 2).sum() / (
        (rows_of(y.numpy()) - y.numpy().mean((0, 2, 3))) ** 2
    ).sum()
    assert fit.error == pytest.approx(residual, rel=1e-4)

    # In eval mode the BN passes the solution through: W u + b.
    with torch.no_grad():
        out = block.eval().bn(block.conv(x))
        assert torch.equal(block(x), out.relu())
    np.testing.assert_allclose(rows_of(out.numpy()), found + bias, atol=1e-4)


def test_without_ridge_the_bias_column_gives_the_same():
    x, y = data(2, 3)
    block = ConvBlock(2, 3)
    solve(block, [(x, y)], 0)
    u = patches_by_hand(x, 3, 1, 1)
    solution = np.linalg.lstsq(np.c_[u, np.ones(len(u))], rows_of(y.double().numpy()), rcond=None)[0]
    np.testing.assert_allclose(block.conv.weight.detach().flatten(1).numpy(), solution[:-1].T, atol=1e-5)
    with torch.no_grad():
        out = block.eval().bn(block.conv(x))
    np.testing.assert_allclose(rows_of(out.numpy()), np.c_[u, np.ones(len(u))] @ solution, atol=1e-4)


def test_the_parts_of_a_batch_do_not_matter(monkeypatch):
    x, y = data(3, 4)
    one, other = ConvBlock(3, 4), ConvBlock(3, 4)
    solve(one, [(x, y)], 1e-3)
    monkeypatch.setattr(examples, 'CHUNK', 1)  # one image at a time
    solve(other, [(x[:5], y[:5]), (x[5:], y[5:])], 1e-3)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value)


@pytest.mark.parametrize('kwargs', [dict(padding='same', dilation=2), dict(padding=1, padding_mode='reflect'), dict()])
def test_other_paddings_are_those_of_the_convolution(kwargs):
    torch.manual_seed(0)
    truth = nn.Conv2d(3, 4, 3, **kwargs)
    block = OneConv(nn.Conv2d(3, 4, 3, **kwargs))
    x = torch.randn(16, 3, 6, 6)
    with torch.no_grad():
        solve(block, [(x, truth(x))], 0)
        torch.testing.assert_close(block.bn(block.conv(x)), truth(x), atol=1e-4, rtol=0)
    assert not block.conv.bias.any()


def test_a_constant_input_gives_the_mean():
    block = ConvBlock(3, 4)
    y = torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    solve(block, [(torch.zeros(8, 3, 5, 5), y)], 1e-4)
    out = block.eval()(torch.zeros(1, 3, 5, 5))
    torch.testing.assert_close(out[0, :, 0, 0], y.mean((0, 2, 3)).relu(), atol=1e-5, rtol=0)


@pytest.mark.parametrize('scale', [1, 1e4])
def test_dependent_inputs_need_no_ridge(scale):
    """Two equal channels and a dead one leave the covariance without full rank; the fit is that of one channel."""
    x, y = data(1, 4)
    x = torch.cat([x, x, 0 * x], 1) * scale
    block = ConvBlock(3, 4)
    solve(block, [(x, y)], 0)
    u = patches_by_hand(x[:, :1], 3, 1, 1)
    weight, bias = direct_solution(u, rows_of(y.double().numpy()), 0)
    with torch.no_grad():
        out = block.eval().bn(block.conv(x))
    np.testing.assert_allclose(rows_of(out.numpy()), u @ weight.T + bias, atol=1e-3)


def test_projection_and_last_convolution_are_solved_together():
    """The sum of both is the least-squares solution on the hidden maps and the block's input side by side."""
    torch.manual_seed(0)
    x, y = data(3, 5, stride=2, n=24)
    block = BasicBlock(3, 5, stride=2).eval()
    fit = solve(block, [(x, y)], 1e-3)
    with torch.no_grad():
        hidden = block.bn1(block.conv1(x)).relu()
    u = np.c_[patches_by_hand(hidden, 3, 1, 1), patches_by_hand(x, 1, 2, 0)]
    weight, bias = direct_solution(u, rows_of(y.double().numpy()), 1e-3)
    expected = u @ weight.T + bias
    with torch.no_grad():
        found = block.bn2(block.conv2(hidden)) + block.shortcut(x)
        solved = copy.deepcopy(block)
        for part in (solved.bn2, solved.shortcut):  # the hidden layer is not what was solved
            part.train()
        trained = solved(x)
    np.testing.assert_allclose(rows_of(found.numpy()), expected, atol=1e-4)
    np.testing.assert_allclose(block.conv2.weight.detach().flatten(1).numpy(), weight[:, :45], atol=1e-4)
    assert fit.error == pytest.approx(relative(expected, y), rel=1e-3)
    torch.testing.assert_close(trained, found.relu(), atol=0.02, rtol=0.02)  # batch statistics are those of the start


def test_an_identity_is_taken_off_first():
    torch.manual_seed(0)
    x, y = data(4, 4, n=24)
    block = BasicBlock(4, 4).eval()
    solve(block, [(x, y)], 0)
    with torch.no_grad():
        hidden = block.bn1(block.conv1(x)).relu()
        found = block.bn2(block.conv2(hidden)) + x
    u = patches_by_hand(hidden, 3, 1, 1)
    weight, bias = direct_solution(u, rows_of((y - x).double().numpy()), 0)
    np.testing.assert_allclose(rows_of(found.numpy()), u @ weight.T + bias + rows_of(x.numpy()), atol=1e-3)


def test_without_norm_and_bias_there_is_no_constant():
    torch.manual_seed(0)
    x, y = data(3, 4, n=24)
    block = PreActBasicBlock(3, 4).eval()
    solve(block, [(x, y)], 0)
    with torch.no_grad():
        active = block.bn1(x).relu()
        hidden = block.bn2(block.conv1(active)).relu()
        found = rows_of(block(x).numpy())
    u = np.c_[patches_by_hand(hidden, 3, 1, 1), patches_by_hand(active, 1, 1, 0)]
    solution = np.linalg.lstsq(u, rows_of(y.double().numpy()), rcond=None)[0]
    np.testing.assert_allclose(found, u @ solution, atol=1e-3)
