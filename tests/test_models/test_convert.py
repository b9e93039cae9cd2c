import pytest
import torch

from mmrecast.models import convert_cifar_resnet, revert_cifar_resnet
from mmrecast.models.convert import is_he_style

HE = {
    'conv1.weight': 0,
    'bn1.running_mean': 1,
    'layer1.0.conv1.weight': 2,
    'layer2.10.bn3.num_batches_tracked': 3,
    'layer3.0.shortcut.1.weight': 4,
    'linear.weight': 5,
    'linear.bias': 6,
}
OURS = {
    'backbone.conv1.weight': 0,
    'backbone.bn1.running_mean': 1,
    'backbone.layer1.0.conv1.weight': 2,
    'backbone.layer2.10.bn3.num_batches_tracked': 3,
    'backbone.layer3.0.shortcut.1.weight': 4,
    'head.fc.weight': 5,
    'head.fc.bias': 6,
}


def tensors(names):
    return {k: torch.tensor(v) for k, v in names.items()}


def test_names_are_changed_and_values_kept():
    assert convert_cifar_resnet(tensors(HE)) == tensors(OURS)
    assert revert_cifar_resnet(tensors(OURS)) == tensors(HE)


def test_the_prefix_of_data_parallel_is_taken_away():
    assert convert_cifar_resnet({f'module.{k}': v for k, v in HE.items()}) == OURS


def test_he_style_names_are_told_from_others():
    assert is_he_style(HE)
    assert not is_he_style(OURS)
    assert not is_he_style({**HE, 'fc.weight': 0})
    assert not is_he_style({'conv1.weight': 0})


@pytest.mark.parametrize('key', ['fc.weight', 'layer4.0.conv1.weight', 'layer1.0.downsample.0.weight', 'conv1'])
def test_another_networks_names_are_refused(key):
    with pytest.raises(ValueError, match=f"'{key}' is no entry of a He-style CIFAR ResNet"):
        convert_cifar_resnet({**HE, key: 0})


@pytest.mark.parametrize('key', ['conv1.weight', 'head.fc2.weight', 'backbone.layer4.0.conv1.weight'])
def test_another_classifiers_names_are_refused(key):
    with pytest.raises(ValueError, match=f"'{key}' is no entry of a classifier with a CifarResNet"):
        revert_cifar_resnet({**OURS, key: 0})
