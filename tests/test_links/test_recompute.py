"""Blocks that compute again what they did: the same gradients, buffers and random numbers, and less that is kept."""

import copy

import pytest
import torch
from torch import nn

from mmrecast.links.prefix import run_to
from mmrecast.links.recompute import recomputing


def block(momentum: float | None = 0.1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3, momentum=momentum), nn.ReLU(inplace=True), nn.Dropout(0.4),
        nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3, momentum=momentum), nn.Sigmoid(),
    )  # fmt: skip


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), block(), block(None), nn.Conv2d(3, 1, 1), block()[:0])


@pytest.fixture
def images():
    return torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def step(net, images, paths, tap=None):
    """Return the loss, the gradients, the buffers and the random numbers that come next."""
    torch.manual_seed(7)
    with recomputing(net, paths):
        loss = run_to(net, tap, images)[0].square().sum()
    loss.backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    return loss.detach(), grads, dict(net.named_buffers()), torch.rand(3)


@pytest.mark.parametrize('tap', [None, '2'])
def test_nothing_is_different(net, images, tap):
    plain, again = copy.deepcopy(net), copy.deepcopy(net)
    expected, found = step(plain, images, (), tap), step(again, images, ['1', '2'], tap)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for (name, buffer), other in zip(plain.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(buffer, other), name  # to the bit, updated once
    assert plain[1][1].num_batches_tracked == 1
    assert all('forward' not in vars(module) for module in again.modules())


def test_a_frozen_block_in_eval_mode_keeps_its_statistics(net, images):
    plain = net.train()
    plain[2].requires_grad_(False).eval()
    plain[2][1].running_mean.normal_()
    again = copy.deepcopy(plain)
    kept = {name: buffer.clone() for name, buffer in again[2].named_buffers()}
    expected, found = step(plain, images, ()), step(again, images, ['1', '2'])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(buffer, kept[name]) for name, buffer in again[2].named_buffers())


def test_a_part_that_does_not_train_is_passed_through(net, images):
    """A detached prefix keeps nothing at all."""
    net[0].requires_grad_(False)
    net[1].requires_grad_(False)
    found = step(net, images, ['1', '2'])
    assert found[1]['1.0.weight'] is None and found[1]['2.0.weight'].abs().sum() > 0


def test_hooks_on_a_block_run_once_and_outside(net, images):
    seen = []
    net[1].register_forward_pre_hook(lambda m, args: seen.append('before'))
    net[1].register_forward_hook(lambda m, args, out: seen.append('behind'))
    step(net, images, ['1', '2'])
    assert seen == ['before', 'behind']


def kept_elements(net, images, paths) -> int:
    """Return how many elements are kept for the backward pass, images and weights left out."""
    own, kept = {p.data_ptr() for p in (*net.parameters(), *net.buffers(), images)}, {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(x.data_ptr(), x), lambda x: x):
        with recomputing(net, paths):
            loss = net(images).sum()
    del loss
    return sum(x.numel() for address, x in kept.items() if address not in own)


def test_inputs_alone_are_kept(net, images):
    """Those of both blocks, and that of the last convolution: 3 maps of 5·3·36."""
    assert kept_elements(net, images, ['1', '2']) == 3 * 5 * 3 * 36
    assert kept_elements(copy.deepcopy(net), images, ()) > 12 * 5 * 3 * 36


def test_a_single_layer_and_a_pass_without_gradients_are_left_alone(net, images, monkeypatch):
    calls = []
    monkeypatch.setattr('mmrecast.links.recompute.checkpoint', lambda f, *args, **kw: calls.append(f) or f(*args))
    with recomputing(net, ['0', '1']):
        net(images)
        assert len(calls) == 1
        with torch.no_grad():
            net(images)
    assert len(calls) == 1


def test_everything_is_put_back_after_a_mistake(net, images):
    own = net[1].forward
    net[1].forward = lambda x: own(x)  # a forward of its own, as compiling gives it
    kept = net[1].forward
    with pytest.raises(RuntimeError), recomputing(net, ['1', '2']):
        net(images[:, :1])
    assert vars(net[1])['forward'] is kept and 'forward' not in vars(net[2])
    with pytest.raises(KeyError, match="has no module '7'"), recomputing(net, ['7']):
        pass
