"""Networks to recast: by name, by config, and with their weights."""

from mmrecast.models.build import build_network, network_config
from mmrecast.models.cifar_densenet import CifarDenseNet
from mmrecast.models.cifar_resnet import CifarResNet
from mmrecast.models.cifar_vgg import CifarVGG
from mmrecast.models.constructor import check_constructor, untrained
from mmrecast.models.convert import convert_cifar_resnet, revert_cifar_resnet
from mmrecast.models.generators import DAFLGenerator, ZSKTGenerator
from mmrecast.models.input_adapter import InputAdapter
from mmrecast.models.load import load_weights
from mmrecast.models.teacher_ensemble import TeacherEnsemble
from mmrecast.models.timm_classifier import TimmClassifier
from mmrecast.models.torchvision_classifier import TorchvisionClassifier
from mmrecast.models.wide_resnet import WideResNet

__all__ = [
    'CifarDenseNet',
    'CifarResNet',
    'CifarVGG',
    'DAFLGenerator',
    'InputAdapter',
    'TeacherEnsemble',
    'TimmClassifier',
    'TorchvisionClassifier',
    'WideResNet',
    'ZSKTGenerator',
    'build_network',
    'check_constructor',
    'convert_cifar_resnet',
    'load_weights',
    'network_config',
    'revert_cifar_resnet',
    'untrained',
]
