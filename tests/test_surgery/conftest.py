"""Small networks of a user's own, and those of the three libraries."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmrecast.models import build_network


class Block(nn.Module):
    """A block of a class that surgery knows nothing of."""

    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, 1)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class Wired(nn.Module):
    """A stem, four blocks, pooling and a classifier, wired by ``wiring(net, stem_output) -> map``."""

    def __init__(self, wiring, width=4, head=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width, width) for _ in range(4))
        self.wide = Block(2 * width, width)
        self.fc = nn.Linear(head, 5)
        self.wiring = wiring

    def forward(self, x):
        return self.fc(self.wiring(self, self.stem(x)).mean((2, 3)))


def in_a_row(net, x):
    for block in net.blocks:
        x = block(x)
    return x


def sequential(block=Block, between=()):
    """Return ``nn.Sequential`` of a stem, three blocks with ``between`` behind the first, and a head."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), block(4, 4), *between, block(4, 8, 2), block(8, 8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def classifier(**backbone):
    channels = backbone.pop('channels')
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=channels),
    )


def cifar(depth, block='basic', shortcut='A', **kwargs):
    channels = kwargs.get('widths', (16, 32, 64))[-1] * (4 if block == 'bottleneck' else 1)
    backbone = dict(type='mmrecast.CifarResNet', depth=depth, block=block, shortcut=shortcut, **kwargs)
    return classifier(channels=channels, **backbone)


NETWORKS = {  # name -> (config, input shape, pattern of its blocks)
    'mmpretrain-basic': (
        classifier(type='ResNet', depth=18, stem_channels=8, base_channels=8, channels=64),
        (3, 32, 32), 'backbone.layer*.*',
    ),
    'mmpretrain-bottleneck': (
        classifier(type='ResNet', depth=50, stem_channels=8, base_channels=8, channels=256),
        (3, 32, 32), 'backbone.layer*.*',
    ),
    'torchvision-basic': (
        dict(type='TorchvisionClassifier', name='resnet18', num_classes=5), (3, 32, 32), 'layer*.*',
    ),
    'torchvision-bottleneck': (
        dict(type='TorchvisionClassifier', name='resnet50', num_classes=5), (3, 32, 32), 'layer*.*',
    ),
    'own-basic': (cifar(14, widths=(4, 8, 16)), (3, 16, 16), 'backbone.layer*.*'),
    'own-bottleneck': (cifar(20, 'bottleneck', 'B', widths=(4, 8, 16)), (3, 16, 16), 'backbone.layer*.*'),
}  # fmt: skip


@pytest.fixture(scope='session')
def toys():
    """What the networks of these tests are made of."""
    return SimpleNamespace(
        Block=Block, Wired=Wired, in_a_row=in_a_row, sequential=sequential, cifar=cifar, classifier=classifier
    )


@pytest.fixture(params=list(NETWORKS))
def library_net(request):
    """Each library's network of each kind of block: (network, input shape, pattern)."""
    torch.manual_seed(0)
    cfg, shape, pattern = NETWORKS[request.param]
    return build_network(cfg).eval(), shape, pattern


@pytest.fixture
def conv_weights():
    """Count the weights of a network's convolutions (and of its classifier)."""

    def count(network, classifier=False):
        kinds = (nn.Conv2d, nn.Linear) if classifier else nn.Conv2d
        return sum(m.weight.numel() for m in network.modules() if isinstance(m, kinds))

    return count
