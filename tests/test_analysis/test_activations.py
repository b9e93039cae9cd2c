import pytest
import torch
from torch import nn

from mmrecast.analysis.activations import fill_statistics, subnormal_activations


def test_statistics_are_those_of_the_images():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten()).eval()
    nn.init.constant_(net[0].weight, 1e-3)
    nn.init.constant_(net[0].bias, 0.5)
    assert fill_statistics(net, (1, 8, 8)) is net
    # uniform images: mean 0.5 and variance 1/12, 1e-3 of them on top of 0.5
    assert net[1].running_mean.tolist() == pytest.approx([0.5005] * 2, abs=1e-4)
    assert net[1].running_var.tolist() == pytest.approx([1e-6 / 12] * 2, rel=0.2)
    assert not net[1].training and net[1].momentum == 0.1


def test_a_deep_untrained_network_keeps_its_activations():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(300)]
    net = nn.Sequential(*layers, nn.Flatten()).eval()
    for layer in layers:
        nn.init.zeros_(layer[0].bias)
    assert subnormal_activations(net, (4, 4, 4)) > 0
    fill_statistics(net, (4, 4, 4))
    assert subnormal_activations(net, (4, 4, 4)) == 0
    with torch.no_grad():
        assert net(torch.rand(1, 4, 4, 4)).std() > 1e-3


def test_subnormal_numbers_are_counted_layer_by_layer():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Identity(), nn.Flatten())
    nn.init.zeros_(net[0].weight)
    nn.init.constant_(net[0].bias, 1e-39)
    assert subnormal_activations(net, (1, 3, 5)) == 3 * 15
    nn.init.zeros_(net[0].bias)
    assert subnormal_activations(net, (1, 3, 5)) == 0
    assert not any(m._forward_hooks for m in net.modules())


def test_a_network_without_bn_is_not_run():
    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError

    fill_statistics(Never(), (1, 2, 2))


@pytest.mark.parametrize('use', [fill_statistics, subnormal_activations])
def test_an_input_that_does_not_fit_is_told(use):
    net = nn.Sequential(nn.Conv2d(2, 2, 5), nn.BatchNorm2d(2))
    with pytest.raises(ValueError, match=r'Sequential does not take an input of \(2, 4, 4\): .*[Kk]ernel size'):
        use(net, (2, 4, 4))
    assert net[1].momentum == 0.1 and not net[0]._forward_hooks
