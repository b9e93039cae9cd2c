import pytest
import torch
import torchvision

from mmrecast.models import TorchvisionClassifier, build_network, network_config


def test_is_torchvisions_own_network():
    network = build_network(dict(type='TorchvisionClassifier', name='resnet18', num_classes=7))
    assert type(network) is torchvision.models.ResNet
    assert network.get_submodule('layer1.0.conv1').out_channels == 64
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_a_name_with_its_library_is_enough():
    cfg = dict(type='TorchvisionClassifier', name='resnet18', _scope_='mmrecast')
    assert network_config('torchvision:resnet18') == cfg
    assert type(build_network('torchvision:resnet18')) is torchvision.models.ResNet


@pytest.mark.parametrize('name', ['alexnet', 'densenet121', 'resnet50', 'vgg16', 'vgg16_bn'])
def test_the_papers_networks_have_weights_of_the_first_version(name, monkeypatch):
    """The weights whose errors the paper prints; what would be fetched is their file."""
    fetched = []

    def fetch(url, *args, **kwargs):
        fetched.append(url)
        raise ConnectionError

    monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', fetch)
    monkeypatch.setattr(torch.nn.Linear, 'reset_parameters', lambda self: None)  # 100 million numbers in VGG-16
    monkeypatch.setattr(torch.nn.init, 'normal_', lambda tensor, *args, **kwargs: tensor)
    with pytest.raises(ConnectionError):
        TorchvisionClassifier(name, weights='IMAGENET1K_V1')
    urls = dict(
        alexnet='alexnet-owt-7be5be79', densenet121='densenet121-a639ec97', resnet50='resnet50-0676ba61',
        vgg16='vgg16-397923af', vgg16_bn='vgg16_bn-6c64b313',
    )  # fmt: skip
    assert [url.rsplit('/', 1)[1] for url in fetched] == [f'{urls[name]}.pth']


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


def test_weights_of_another_network_are_refused(tmp_path):
    """ResNet-34 has eight basic blocks more, each of two convolutions and two BatchNorms of four tensors."""
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / 'resnet18.pth')
    with pytest.raises(ValueError, match=r'resnet18.pth does not fit ResNet: 80 missing: layer1.2.conv1.weight \(64, '):
        TorchvisionClassifier('resnet34', weights=str(tmp_path / 'resnet18.pth'))


@pytest.mark.parametrize(
    ('cfg', 'error', 'message'),
    [
        (dict(name='resnet19'), ValueError, r"no classifier 'resnet19' \(nearest: resnet1"),
        (dict(name='fasterrcnn_resnet50_fpn'), ValueError, "no classifier 'fasterrcnn_resnet50_fpn'"),
        (
            dict(name='resnet18', weights='IMAGENET1K'),
            ValueError,
            r"resnet18 has no weights 'IMAGENET1K' \(nearest: IMAGENET1K_V1.*\); a checkpoint ends in .pt or .pth",
        ),
        (dict(name='resnet18', weights='none.pth'), FileNotFoundError, 'none.pth'),
        (dict(name='mnasnet0_75', weights='V2'), ValueError, 'mnasnet0_75 has no weights .V2'),
        (dict(name='resnet18', weights='DEFAULT', num_classes=10), ValueError, "'num_classes' expected value 1000"),
    ],
)
def test_unknown_names_are_refused(cfg, error, message):
    with pytest.raises(error, match=message):
        TorchvisionClassifier(**cfg)
