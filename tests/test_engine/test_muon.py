"""Muon for convolutions: its own steps against the definition and PyTorch's, Adam's for the rest, and exact resume."""

import copy
import math

import pytest
import torch
from tiny import NO_TEST, NO_VAL, Killed, config, differing, recasting, run, weights
from torch import nn

from mmrecast.engine import MuonWithAuxAdam, check_optimizer
from mmrecast.engine.muon import is_kernel, orthogonal

SHAPES = [(16, 16, 3, 3), (64, 3, 7, 7), (32, 16, 1, 1), (8, 2, 3, 3)]


def with_gradient(*shape: int, seed: int = 0, scale: float = 1.0) -> nn.Parameter:
    made = torch.Generator().manual_seed(seed)
    parameter = nn.Parameter(torch.randn(shape, generator=made))
    parameter.grad = scale * torch.randn(shape, generator=made)
    return parameter


@pytest.mark.parametrize('rows, columns', [(16, 144), (144, 16), (64, 64)])
@pytest.mark.parametrize('scale', [1e-6, 1, 1e6])
def test_singular_values_come_near_one_and_vectors_stay(rows, columns, scale):
    matrix = torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.mT @ orthogonal(matrix, 5) @ v.mT  # diagonal in the matrix's own vectors
    values = torch.diagonal(found, dim1=1, dim2=2)
    assert torch.allclose(found, torch.diag_embed(values), atol=1e-9)
    above = s > 0.02 * s.norm(dim=1, keepdim=True)
    assert above.sum() > 0.8 * s.numel()
    assert 0.65 < values[above].min() and values.max() < 1.25


def test_nothing_comes_of_nothing():
    assert not orthogonal(torch.zeros(1, 4, 9), 5).any()
    kernel = with_gradient(4, 4, 3, 3, scale=0.0)
    before = kernel.detach().clone()
    MuonWithAuxAdam([kernel]).step()
    assert torch.equal(kernel, before)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('rms, scale', [(0.2, 1e-5), (0.2, 1e5), (0.6, 1)])
def test_a_step_has_the_size_that_is_asked_for_whatever_the_gradients(shape, rms, scale):
    kernel = with_gradient(*shape, scale=scale)
    before = kernel.detach().clone()
    MuonWithAuxAdam([kernel], lr=0.1, rms=rms).step()
    size = (kernel - before).square().mean().sqrt().item()
    assert 0.1 * rms * 0.6 < size < 0.1 * rms * 1.2


@pytest.mark.skipif(not hasattr(torch.optim, 'Muon'), reason='PyTorch before 2.9 has no Muon')
@pytest.mark.parametrize('decay', [0.0, 0.3])
def test_several_steps_are_those_of_pytorch_on_the_flattened_kernel(decay):
    """PyTorch's rounds to bfloat16 inside: three digits."""
    kernel = with_gradient(16, 8, 3, 3)
    flat = nn.Parameter(kernel.detach().flatten(1).clone())
    ours = MuonWithAuxAdam([kernel], lr=0.05, weight_decay=decay)
    theirs = torch.optim.Muon([flat], lr=0.05, weight_decay=decay, momentum=0.95, adjust_lr_fn='match_rms_adamw')
    start = flat.detach().clone()
    for step in range(4):
        kernel.grad = with_gradient(16, 8, 3, 3, seed=step).grad
        flat.grad = kernel.grad.flatten(1).clone()
        ours.step()
        theirs.step()
    moved = (flat - start).norm()
    assert moved > 0.5
    assert (kernel.flatten(1) - flat).norm() < 0.02 * moved


def test_everything_but_kernels_takes_the_steps_of_adamw():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)
    )
    assert [name for name, p in net.named_parameters() if is_kernel(p)] == ['0.weight']
    other = copy.deepcopy(net)
    ours = MuonWithAuxAdam(net.parameters(), lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.1)
    for step in range(3):
        made = torch.Generator().manual_seed(step)
        for one, two in zip(net.parameters(), other.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=made)
            two.grad = one.grad.clone()
        given = [p.grad.clone() for p in net.parameters()]
        ours.step()
        theirs.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), given, strict=True))
    for (name, one), two in zip(net.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two) == (name != '0.weight')


def test_kernels_of_one_shape_step_as_each_alone():
    together = [with_gradient(8, 8, 3, 3, seed=seed) for seed in range(3)]
    apart = copy.deepcopy(together)
    for one, two in zip(together, apart, strict=True):
        two.grad = one.grad.clone()
    MuonWithAuxAdam(together, lr=0.1).step()
    for one in apart:
        MuonWithAuxAdam([one], lr=0.1).step()
    for one, two in zip(together, apart, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    'dtype, form', [(torch.bfloat16, torch.contiguous_format), (torch.float32, torch.channels_last)]
)
def test_other_types_and_layouts_step_alike(dtype, form):
    plain = with_gradient(8, 4, 3, 3)
    other = nn.Parameter(plain.detach().to(dtype, memory_format=form))
    other.grad = plain.grad.to(dtype, memory_format=form)
    for one in (plain, other):
        MuonWithAuxAdam([one], lr=0.1).step()
    assert other.dtype == dtype and other.is_contiguous(memory_format=form)
    torch.testing.assert_close(other.float().contiguous(), plain, rtol=0.02, atol=0.02)


def test_hooks_of_a_step_are_called_once():
    torch.optim.AdamW([with_gradient(2)])  # PyTorch wraps a class's step when one of its objects is made
    optimizer, calls = MuonWithAuxAdam([with_gradient(4, 4, 3, 3), with_gradient(2)]), []
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    optimizer.step()
    assert calls == [1]


def test_groups_have_rates_of_their_own_and_closures_are_called():
    one, two = with_gradient(4, 4, 3, 3), with_gradient(4, 4, 3, 3)
    start = one.detach().clone()
    groups = [dict(params=[one], lr=0.1), dict(params=[two], lr=0.2, momentum=0.5)]
    assert MuonWithAuxAdam(groups).step(lambda: torch.tensor(3.0)) == 3
    torch.testing.assert_close(2 * (one - start), two - start)


def test_a_kernel_without_a_gradient_stays():
    used, unused = with_gradient(4, 4, 3, 3), nn.Parameter(torch.ones(4, 4, 3, 3))
    MuonWithAuxAdam([used, unused], weight_decay=1.0).step()
    assert torch.equal(unused, torch.ones(4, 4, 3, 3))


@pytest.mark.parametrize(
    'settings, told',
    [
        (dict(momentum=1.0), 'momentum is out of its range: 1.0'),
        (dict(momentum=-0.1), 'momentum is out of its range: -0.1'),
        (dict(rms=0.0), 'rms is out of its range: 0.0'),
        (dict(rms='0.2'), "rms is out of its range: '0.2'"),
        (dict(ns_steps=0), 'ns_steps is out of its range: 0'),
        (dict(ns_steps=2.5), 'ns_steps is out of its range: 2.5'),
        (dict(lr=math.nan), 'lr must be a number, got nan'),
        (dict(lr=-1.0), 'lr is out of its range: -1.0'),
        (dict(betas=(0.9, 1.0)), r'betas is out of its range: \(0.9, 1.0\)'),
        (dict(weight_decay=-1.0), 'weight_decay is out of its range: -1.0'),
        (dict(eps=-1.0), 'eps is out of its range: -1.0'),
        (dict(nesterov=True), 'nesterov'),
    ],
)
def test_mistakes_are_told_before_training(settings, told):
    cfg = dict(type='OptimWrapper', optimizer=dict(type='MuonWithAuxAdam', **settings))
    with pytest.raises(ValueError, match=f'(?i){told}'):
        check_optimizer('optim_wrapper', cfg, device='cpu')


@pytest.mark.usefixtures('quick')
def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    stages = [dict(kind='recast', blocks='all', iters=4), dict(kind='finetune', iters=5)]
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='MuonWithAuxAdam', lr=1e-2))
    cfg = config(recasting(), stages, optim_wrapper=wrapper, checkpoint=dict(iter_interval=1), **NO_VAL, **NO_TEST)
    run(cfg, tmp_path / 'whole')
    with pytest.raises(Killed):
        run(cfg, tmp_path / 'cut', dict(kind='iter', n=7))
    run(cfg, tmp_path / 'cut', resume=True)
    assert not differing(weights(tmp_path / 'whole'), weights(tmp_path / 'cut'))
