import pytest
import torch
from torch import nn

from mmrecast.utils.modules import device_of, get_module, hooked, set_module, untouched, xavier_init


class Counting(nn.Module):
    """Changes one buffer in place and puts a new tensor in the place of another."""

    def __init__(self):
        super().__init__()
        self.register_buffer('calls', torch.zeros(()))
        self.register_buffer('last', torch.zeros(2))
        self.register_buffer('never', None)

    def forward(self, x):
        self.calls += 1
        self.last = x.detach().flatten()[:2]
        return x


class Freezing(nn.Sequential):
    """Freezes its first layer whenever its mode is set, as mmpretrain's backbones do."""

    def train(self, mode=True):
        super().train(mode)
        for parameter in self[0].parameters():
            parameter.requires_grad_(False)
        return self


def test_get_module():
    net = nn.Sequential(nn.Sequential(nn.ReLU()))
    assert get_module(net, '0.0') is net[0][0]
    with pytest.raises(KeyError, match=r"Sequential has no module '0.1' \(nearest: 0.0, 0\)"):
        get_module(net, '0.1')
    with pytest.raises(KeyError, match="has no module ''"):
        get_module(net, '')


def test_set_module_replaces_under_every_name():
    net = nn.Module()
    net.block = nn.Conv2d(1, 1, 1)
    net.all = nn.Sequential(net.block, nn.ReLU(), net.block)
    new = nn.Identity()
    set_module(net, 'block', new)
    assert net.block is new and net.all[0] is new and net.all[2] is new and isinstance(net.all[1], nn.ReLU)
    with pytest.raises(KeyError, match="has no module 'blok' .nearest: block"):
        set_module(net, 'blok', new)


@pytest.mark.parametrize('fails', [False, True])
def test_untouched_gives_back_modes_and_buffers(fails):
    net = nn.Sequential(nn.BatchNorm2d(3), Counting(), nn.Dropout()).train()
    net[2].eval()
    modes = [module.training for module in net.modules()]
    before = {name: (buffer, buffer.clone()) for name, buffer in net.named_buffers()}
    try:
        with untouched(net) as inside:
            assert inside is net and not any(module.training for module in net.modules())
            net[0].train()  # statistics change
            net(torch.ones(2, 3, 4, 4))
            assert net[1].calls == 1 and net[0].num_batches_tracked == 1
            if fails:
                raise RuntimeError('inside')
    except RuntimeError:
        assert fails
    assert [module.training for module in net.modules()] == modes
    after = dict(net.named_buffers())
    assert after.keys() == before.keys()
    for name, (buffer, value) in before.items():
        assert after[name] is buffer and torch.equal(buffer, value), name
    assert net[1].never is None


def test_untouched_does_not_run_the_networks_own_train():
    net = Freezing(nn.Linear(2, 2))
    with untouched(net):
        assert not net.training
    assert net.training and net[0].weight.requires_grad


def test_hooked_removes_hooks_after_an_error():
    layer, seen = nn.Identity(), []
    with pytest.raises(ZeroDivisionError), hooked([layer.register_forward_hook(lambda *args: seen.append(1))]):
        layer(torch.zeros(1))
        raise ZeroDivisionError
    layer(torch.zeros(1))
    assert seen == [1] and not layer._forward_hooks


def test_device_of():
    assert device_of(nn.Linear(1, 1, device='meta')).type == 'meta'
    assert device_of(nn.BatchNorm1d(1, affine=False, device='meta')).type == 'meta'
    assert device_of(nn.ReLU()).type == 'cpu'


def test_xavier_init_by_its_formula():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Sequential(nn.Linear(300, 100)), nn.ConvTranspose2d(2, 2, 2)
    )
    with torch.no_grad():
        for tensor in (*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())):
            tensor.fill_(7)
    assert xavier_init(net) is net
    for layer, bound in ((net[0], (6 / (9 * 8 + 9 * 16)) ** 0.5), (net[2][0], (6 / 400) ** 0.5)):
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)  # a uniform distribution's
        assert not layer.bias.any()
    assert not net[3].bias.any() and net[3].weight.unique().numel() > 1
    norm = net[1]
    assert torch.equal(norm.weight, torch.ones(16)) and not norm.bias.any()
    assert not norm.running_mean.any() and torch.equal(norm.running_var, torch.ones(16))
