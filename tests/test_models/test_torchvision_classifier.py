import pytest
import torch
import torchvision

from mmrecast.models import TorchvisionClassifier, build_network


def test_is_torchvisions_own_network():
    network = build_network(dict(type='TorchvisionClassifier', name='resnet18', num_classes=7))
    assert type(network) is torchvision.models.ResNet
    assert network.get_submodule('layer1.0.conv1').out_channels == 64
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_further_arguments_reach_torchvision():
    assert (
        TorchvisionClassifier('resnet18', width_per_group=64, zero_init_residual=True).layer1[0].bn2.weight.sum() == 0
    )


def test_weights_come_from_a_file(tmp_path):
    source = torchvision.models.resnet18(num_classes=3)
    torch.save(source.state_dict(), tmp_path / 'resnet18.pth')
    network = TorchvisionClassifier('resnet18', weights=str(tmp_path / 'resnet18.pth'), num_classes=3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), source.parameters(), strict=True))
    with pytest.raises(ValueError, match=r'fc.weight \(3, 512\), expected \(4, 512\)'):
        TorchvisionClassifier('resnet18', weights=str(tmp_path / 'resnet18.pth'), num_classes=4)


@pytest.mark.parametrize(
    ('cfg', 'error', 'message'),
    [
        (dict(name='resnet19'), ValueError, r"no classifier 'resnet19' \(nearest: resnet1"),
        (dict(name='fasterrcnn_resnet50_fpn'), ValueError, "no classifier 'fasterrcnn_resnet50_fpn'"),
        (
            dict(name='resnet18', weights='IMAGENET1K'),
            ValueError,
            r"no weights 'IMAGENET1K' \(nearest: IMAGENET1K_V1",
        ),
        (dict(name='resnet18', weights='none.pth'), FileNotFoundError, 'none.pth'),
    ],
)
def test_unknown_names_are_refused(cfg, error, message):
    with pytest.raises(error, match=message):
        TorchvisionClassifier(**cfg)
