import copy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from mmrecast.models import build_network, network_config

CLASSIFIER = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
)


def write_config(path, text):
    path.write_text(text)
    return path


def test_a_network_is_returned_as_it_is():
    network = nn.Linear(2, 2)
    assert build_network(network) is network


@pytest.mark.parametrize('wrap', [dict, ConfigDict])
def test_a_config_is_built_where_its_type_lives_and_is_not_changed(wrap):
    cfg = wrap(copy.deepcopy(CLASSIFIER))
    network = build_network(cfg)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert type(network.backbone).__module__.startswith('mmpretrain.')
    assert cfg == CLASSIFIER


def test_an_own_type_needs_no_scope():
    assert type(build_network(dict(type='CifarResNet', depth=8))).__name__ == 'CifarResNet'


def test_an_mmpretrain_name_gives_its_config_without_fetching_weights():
    network = build_network('resnet18_8xb16_cifar10')
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert network_config('resnet18_8xb16_cifar10')['backbone']['type'] == 'ResNet_CIFAR'


def test_an_mmpretrain_model_of_another_name_than_its_file_is_found():
    cfg = network_config('densenet201_3rdparty_in1k')
    assert cfg['type'] == 'mmpretrain.ImageClassifier'
    assert cfg['backbone']['arch'] == '201'


def test_a_config_file_gives_its_model(tmp_path):
    own = write_config(tmp_path / 'own.py', "model = dict(type='CifarResNet', depth=8)\n")
    assert build_network(own).out_channels == 64
    text = """
default_scope = 'mmpretrain'
model['type'] = 'ImageClassifier'
data_preprocessor = dict(num_classes=10)
"""
    theirs = write_config(tmp_path / 'theirs.py', f'model = {CLASSIFIER}{text}')
    cfg = network_config(str(theirs))
    assert cfg == CLASSIFIER | dict(_scope_='mmpretrain', data_preprocessor=dict(num_classes=10))
    assert build_network(theirs)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert Config.fromfile(theirs).model.type == 'ImageClassifier'


@pytest.mark.parametrize(
    ('source', 'error', 'message'),
    [
        (
            'resnet18_8xb16_cifar11',
            ValueError,
            r"no model 'resnet18_8xb16_cifar11' \(nearest: resnet18_8xb16_cifar10",
        ),
        ('nowhere/config.py', FileNotFoundError, 'there is no config file nowhere/config.py'),
        (dict(depth=8), ValueError, r"the config of a network needs 'type', got only \['depth'\]"),
        (
            dict(type='CifarResnet', depth=8),
            KeyError,
            'not registered in mmrecast.model .nearest: CifarResNet',
        ),
        (dict(type='BatchNorm'), KeyError, "'BatchNorm' is not registered"),
        (8, TypeError, 'a network is given as a config, a config file, .* got int'),
        (None, TypeError, 'got NoneType'),
    ],
)
def test_what_names_no_network_is_refused(source, error, message):
    with pytest.raises(error, match=message):
        build_network(source)


def test_a_config_file_without_a_model_is_refused(tmp_path):
    path = write_config(tmp_path / 'empty.py', 'lr = 0.1\n')
    with pytest.raises(ValueError, match=r"empty.py has no 'model'; it has \['lr'\]"):
        build_network(path)


def test_a_type_that_builds_no_network_is_refused():
    with pytest.raises(TypeError, match="type 'builtins.dict' builds no network, but dict"):
        build_network(dict(type='builtins.dict'))
