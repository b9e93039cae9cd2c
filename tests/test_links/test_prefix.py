import pytest
import torch
from torch import nn

from mmrecast.links.prefix import run_to


class Layer(nn.Module):
    """Adds 1 and counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x + 1


class InPlace(nn.Module):
    def forward(self, x):
        return x.mul_(0)


def hooks(net):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@pytest.fixture
def net():
    return nn.Sequential(Layer(), nn.Sequential(Layer(), Layer()), Layer())


@pytest.mark.parametrize(('tap', 'calls'), [('0', [1, 0, 0, 0]), ('1.0', [1, 1, 0, 0]), ('1', [1, 1, 1, 0])])
def test_nothing_behind_the_tap_is_computed(net, tap, calls):
    output, read = run_to(net, tap, torch.zeros(1))
    assert output.item() == sum(calls) and read is None
    assert [m.calls for m in net.modules() if isinstance(m, Layer)] == calls
    assert hooks(net) == 0


def test_without_a_tap_the_logits_come(net):
    assert run_to(net, None, torch.zeros(1))[0].item() == 4


def test_reads_and_feeds(net):
    output, read = run_to(net, '1', torch.zeros(1), read='1', feed=('1.0', lambda x: x * 10))
    assert (output.item(), read.item()) == (12, 1)
    assert run_to(net, None, torch.zeros(1), read='0')[1].item() == 0
    assert hooks(net) == 0


def test_gradients_flow_to_the_tap():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1))
    run_to(net, '0', torch.full((1, 1), 3.0))[0].sum().backward()
    assert net[0].weight.grad.item() == 3 and net[1].weight.grad is None


def test_what_is_read_survives_a_module_that_works_in_place():
    net = nn.Sequential(Layer(), InPlace())
    assert run_to(net, None, torch.zeros(1), read='1')[1].item() == 1
    assert run_to(net, '1', torch.zeros(1), read='1')[1].item() == 1


def test_a_network_that_catches_exceptions_is_stopped_all_the_same():
    class Catching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Layer()

        def forward(self, x):
            try:
                return self.inner(x)
            except Exception:
                return x - 100

    assert run_to(Catching(), 'inner', torch.zeros(1))[0].item() == 1


def test_hooks_are_gone_after_errors(net):
    net[1][1].forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run_to(net, '2', torch.zeros(1), read='1', feed=('1', lambda x: x))
    assert hooks(net) == 0
    with pytest.raises(KeyError, match=r"has no module '1.9' \(nearest: 1.1, 1.0"):
        run_to(net, '2', torch.zeros(1), read='1.9')
    assert hooks(net) == 0


def test_a_tap_that_is_not_called_is_an_error(net):
    net.spare = nn.ModuleDict(dict(unused=Layer()))
    net.forward = lambda x: net[0](x)
    with pytest.raises(ValueError, match="Sequential does not call 'spare.unused' in its forward pass"):
        run_to(net, 'spare.unused', torch.zeros(1))
    assert hooks(net) == 0
