from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrecast.models import CifarResNet, build_network, load_weights
from mmrecast.registry import MODELS

SHARED = Path(__file__).parents[3] / 'shared' / 'data' / 'resnet56_cifar10_jpeg.pth'
IMAGES = Path.home() / '.cache' / 'mmrecast' / 'test'


def classifier(classes=10, **backbone):
    channels = 256 if backbone.get('block') == 'bottleneck' else 64
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmrecast.CifarResNet', **backbone),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=classes, in_channels=channels),
    )


def count(network):
    """Return (weights, multiplications per 32x32 image) of the convolutions that are called."""
    weights, mults = [], []

    def read(conv, args, out):
        weights.append(conv.weight.numel())
        mults.append(conv.weight.numel() * out.shape[2] * out.shape[3])

    hooks = [m.register_forward_hook(read) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network.eval()(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return sum(weights), sum(mults)


@pytest.mark.parametrize(
    ('cfg', 'weights', 'mults'),
    [
        (dict(depth=56), 0.85, 125.49),
        (dict(depth=56, shortcut='B'), 0.85, 125.75),
        (dict(depth=83, block='bottleneck', shortcut='B'), 0.854, 127.3),
    ],
)
def test_counts_are_those_of_the_papers_networks(cfg, weights, mults):
    """Network Recasting, Table 2 (ResNet-56), and the natural ResNet-83; in millions, convolutions alone."""
    counted = count(CifarResNet(**cfg))
    digits = len(str(weights)) - 2, len(str(mults)) - 4
    assert (round(counted[0] / 1e6, digits[0]), round(counted[1] / 1e6, digits[1])) == (weights, mults)


@pytest.mark.parametrize(('depth', 'block', 'blocks'), [(20, 'basic', 9), (56, 'basic', 27), (83, 'bottleneck', 27)])
def test_depth_counts_the_convolutions_and_the_classifier(depth, block, blocks):
    network = CifarResNet(depth, block=block, shortcut='A')
    convs = sum(isinstance(m, nn.Conv2d) for m in network.modules())
    assert convs == depth - 1
    assert [len(stage) for stage in (network.layer1, network.layer2, network.layer3)] == [blocks // 3] * 3


def test_returns_the_last_map_for_any_image_and_widths():
    network = MODELS.build(dict(type='CifarResNet', depth=8, widths=(4, 8, 12), in_channels=1))
    (out,) = network(torch.zeros(2, 1, 8, 8))
    assert out.shape == (2, 12, 2, 2)
    assert network.out_channels == 12
    (out,) = CifarResNet(11, block='bottleneck')(torch.zeros(2, 3, 32, 32))
    assert out.shape == (2, 256, 8, 8)


def test_the_stem_may_have_a_width_of_its_own():
    network = CifarResNet(8, shortcut='B', widths=(6, 8, 10), stem_width=4)
    first = network.layer1[0]
    assert (network.conv1.out_channels, network.bn1.num_features, first.conv1.in_channels) == (4, 4, 4)
    assert not isinstance(first.shortcut, nn.Identity)  # stage 1 widens
    assert network(torch.zeros(2, 3, 8, 8))[0].shape == (2, 10, 2, 2)


def test_is_a_backbone_of_an_image_classifier():
    network = build_network(classifier(depth=11, block='bottleneck', classes=7))
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_init_cfg_is_applied_by_init_weights_alone():
    network = CifarResNet(8, init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))
    assert not (network.conv1.weight == 0.5).all()
    network.init_weights()
    assert (network.conv1.weight == 0.5).all()


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(depth=57), r'depth must be 6n\+2 with basic blocks, got 57'),
        (dict(depth=2), r'depth must be 6n\+2 with basic blocks, got 2'),
        (dict(depth=20.0), r'depth must be 6n\+2 with basic blocks, got 20.0'),
        (dict(depth=21, block='bottleneck'), r'depth must be 9n\+2 with bottleneck blocks, got 21'),
        (dict(depth=20, block='botleneck'), r"unknown block 'botleneck' \(nearest: bottleneck"),
        (dict(depth=20, shortcut='C'), "shortcut must be 'A' or 'B', got 'C'"),
        (
            dict(depth=20, widths=(16, 32)),
            r'three positive widths and positive in_channels expected, got \(16, 32\)',
        ),
        (dict(depth=20, widths=(16, 32, 0)), r'three positive widths .* got \(16, 32, 0\)'),
        (dict(depth=20, stem_width=0), 'stem_width must be a positive whole number or None, got 0'),
        (dict(depth=20, stem_width=16.0), 'stem_width must be .* got 16.0'),
        (dict(depth=20, in_channels=0), 'positive in_channels expected, .* and 0'),
    ],
)
def test_bad_arguments_are_refused(cfg, message):
    with pytest.raises(ValueError, match=message):
        CifarResNet(**cfg)


class PlainBlock(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.stride = stride

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            zeros = torch.zeros(x.shape[0], x.shape[1] // 2, *out.shape[2:])
            x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], dim=1)
        return F.relu(out + x)


class PlainResNet56(nn.Module):
    """ResNet-56 with option A and He-style names, written without this project."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(PlainBlock(16, 16, 1) for _ in range(9)))
        self.layer2 = nn.Sequential(PlainBlock(16, 32, 2), *(PlainBlock(32, 32, 1) for _ in range(8)))
        self.layer3 = nn.Sequential(PlainBlock(32, 64, 2), *(PlainBlock(64, 64, 1) for _ in range(8)))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def test_agrees_with_a_plain_network_of_the_same_random_weights(tmp_path):
    torch.manual_seed(0)
    plain = PlainResNet56()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    network = load_weights(build_network(classifier(depth=56)), tmp_path / 'plain.pth')
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(images), plain.eval()(images), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not SHARED.is_file(), reason='needs ../shared/data/resnet56_cifar10_jpeg.pth')
@pytest.mark.skipif(not IMAGES.is_dir(), reason='needs the JPEG test images under ~/.cache/mmrecast/test')
def test_the_trained_teacher_agrees_with_a_plain_network_on_200_images():
    from PIL import Image

    plain = PlainResNet56()
    plain.load_state_dict(torch.load(SHARED, weights_only=True))
    network = load_weights(build_network(classifier(depth=56)), SHARED)
    folders = sorted(folder for folder in IMAGES.iterdir() if folder.is_dir())
    files = [(file, label) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())[:20]]
    pixels = np.stack([np.asarray(Image.open(file).convert('RGB')) for file, _ in files]) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    images = torch.from_numpy(pixels).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = network.eval()(images)
        torch.testing.assert_close(logits, plain.eval()(images), atol=1e-5, rtol=1e-5)
    assert (logits.argmax(1) == torch.tensor([label for _, label in files])).float().mean() > 0.84
