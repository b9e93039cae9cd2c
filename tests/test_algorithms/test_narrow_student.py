"""The small network of an adjoined pair for those that train it alone."""

import copy
import math

import pytest
import torch
from tiny import SHAPE, classifier, preprocessor
from torch import nn

from mmrecast.algorithms.narrow_student import narrow_by
from mmrecast.apis import load_student, save_student
from mmrecast.models import build_network
from mmrecast.registry import MODELS
from mmrecast.surgery.student_file import Origin

WIDE = classifier(widths=(32, 64, 128), shortcut='B')
RECIPE = [dict(source='backbone.layer*.*', target='ConvBlock')]


def build(source, **options):
    return MODELS.build(dict(type='NarrowStudent', source=source, input_shape=SHAPE) | options)


def shapes(network):
    return {name: value.shape for name, value in network.state_dict().items()}


def layers_of(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


@pytest.mark.parametrize(
    ('options', 'widths'),
    [
        ({}, (32, 64, 32)),  # above 64 there is the last stage alone
        (dict(above=0), (8, 16, 32)),
        (dict(above=32), (32, 16, 32)),
        (dict(above=0, alpha=2), (16, 32, 64)),
        (dict(above=32, alpha=8, exclude=['backbone.layer3']), (32, 8, 128)),
        (dict(alpha={'backbone.layer3': 4}), (32, 64, 32)),
    ],
)
def test_it_is_the_network_of_those_widths(options, widths):
    student = build(WIDE, **options)
    assert shapes(student) == shapes(build_network(classifier(widths=widths, stem_width=widths[0], shortcut='B')))


def test_it_is_saved_with_its_origin(tmp_path):
    student = build(WIDE, above=0)
    save_student(tmp_path / 'student.pth', student, student.origin)
    images = torch.randn(2, *SHAPE)
    assert torch.equal(load_student(tmp_path / 'student.pth')(images), student.eval()(images))
    assert student.origin.plan is None and student.origin.widths.input_shape == SHAPE


def test_mmpretrains_networks_initialise_themselves():
    """He's rule by filters (ResNet) and a normal distribution of 0.01 (LinearClsHead), at the narrow widths."""
    torch.manual_seed(0)
    backbone = dict(type='ResNet_CIFAR', depth=18, in_channels=1, stem_channels=32, base_channels=32)
    head = dict(type='LinearClsHead', num_classes=10, in_channels=256)
    source = dict(
        type='mmpretrain.ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'), head=head
    )
    layers = layers_of(build(source, above=0))
    assert layers['backbone.layer4.1.conv2'].weight.shape == (64, 64, 3, 3)
    for name, layer in layers.items():
        std = 0.01 if name == 'head.fc' else math.sqrt(2 / (layer.out_channels * layer.weight[0, 0].numel()))
        near = 5 / math.sqrt(2 * layer.weight.numel())  # five times how far an estimate is off
        assert layer.weight.std().item() == pytest.approx(std, rel=near), name


def test_pytorchs_own_draws_are_those_of_fewer_inputs():
    """Uniform in ±1/√n of n inputs, weights and biases; one of a thousand draws comes near the bound."""
    torch.manual_seed(0)
    student = build(dict(type='PlainNet', width=64), above=0)
    for name, layer in layers_of(student).items():
        bound = 1 / math.sqrt(layer.weight[0].numel())
        assert 0.98 * bound < layer.weight.abs().max() <= bound * (1 + 1e-6), name
        assert 0.5 * bound < layer.bias.abs().max() <= bound * (1 + 1e-6), name
    assert student.block2.conv.weight.shape == (16, 16, 3, 3) and student.stem.weight.shape == (16, 1, 3, 3)


def test_the_signal_is_as_large_as_in_the_source():
    """torchvision's VGG without BN (He's rule by filters): what a filter sums up keeps its variance."""
    torch.manual_seed(0)
    source = dict(type='TorchvisionClassifier', name='vgg11', num_classes=5)
    student = build(source, input_shape=(3, 32, 32), alpha=4)
    layer = student.features[18]  # the last but one: 128 channels of 512 read 128 of 512
    assert layer.weight.shape[:2] == (128, 128)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)
    first = student.features[3]  # 64 → 128, of which 32 are kept: it reads as much as before
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)


def test_seed_decides():
    one, two, other = ((torch.manual_seed(s), build(WIDE, above=0))[1].head.fc.weight for s in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.fixture
def sevens(tmp_path):
    """The file of a student whose every parameter is 7."""
    network = build_network(WIDE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7)
    save_student(tmp_path / 'sevens.pth', network, Origin(WIDE))
    return str(tmp_path / 'sevens.pth'), network


def test_nothing_of_trained_weights_is_kept(sevens):
    path, network = sevens
    for student in (build(path, above=0), build(network, above=0)):
        assert not any((parameter == 7).any() for parameter in student.parameters())
    assert student is network and student.origin.constructor is None


def test_of_a_student_with_a_plan(tmp_path):
    """The file of a recast student, and a recipe's: both give the plan's blocks with a quarter of the filters."""
    source = MODELS.build(dict(type='RecastStudent', source=WIDE, recipe=RECIPE, input_shape=SHAPE))
    save_student(tmp_path / 'recast.pth', source, source.origin)
    recipe = dict(type='RecastStudent', source=WIDE, recipe=RECIPE, input_shape=SHAPE)
    for given in (str(tmp_path / 'recast.pth'), recipe):
        student = build(given, above=0)
        assert [student.backbone.get_submodule(f'layer{n}')[0].conv.out_channels for n in (1, 2, 3)] == [8, 16, 32]
        save_student(tmp_path / 'student.pth', student, student.origin)
        images = torch.randn(2, *SHAPE)
        assert torch.equal(load_student(tmp_path / 'student.pth')(images), student.eval()(images))
    assert student.origin.plan == source.origin.plan and student.origin.constructor == source.origin.constructor


def test_a_distiller_trains_it_as_it_begins():
    cfg = dict(type='NarrowStudent', source=WIDE, above=0, input_shape=SHAPE)
    torch.manual_seed(0)
    alone = MODELS.build(copy.deepcopy(cfg))
    torch.manual_seed(0)
    algorithm = MODELS.build(dict(type='SingleTeacherDistill', student=cfg, data_preprocessor=preprocessor()))
    assert torch.equal(algorithm.student.head.fc.weight, alone.head.fc.weight)
    assert algorithm.origin == alone.origin and algorithm.kept_networks[''] == (algorithm.student, alone.origin)
    half = MODELS.build(
        dict(type='SingleTeacherDistill', student=cfg | dict(alpha=2), data_preprocessor=preprocessor())
    )
    one, other = algorithm.fingerprint(), half.fingerprint()
    assert [key for key in one if one[key] != other[key]] == ['widths']


def test_narrowing_without_rescaling_keeps_the_weights():
    network = build_network(classifier(widths=(4, 8, 16), shortcut='B'))
    before = copy.deepcopy(network)
    widths = narrow_by(network, SHAPE, alpha=4, above=8)
    assert torch.equal(network.backbone.layer3[0].conv2.weight, before.backbone.layer3[0].conv2.weight[:4, :4])
    assert torch.equal(network.head.fc.weight, before.head.fc.weight[:, :4])
    assert sorted(widths.layers)[-1] == 'head.fc' and 'backbone.layer2.0.conv2' not in widths.layers


@pytest.mark.parametrize(
    ('source', 'options', 'error', 'message'),
    [
        (WIDE, dict(above=0, alpha=3), ValueError, 'alpha=3 does not divide the 32 channels'),
        (WIDE, dict(above=0, alpha=0), ValueError, 'alpha must be a whole number of at least 1, got 0'),
        (WIDE, dict(above=500), ValueError, 'no layer to adjoin: .*set above= lower'),
        (WIDE, dict(above=0, exclude=['backbone.layer9']), ValueError, "'backbone.layer9'.* matches nothing"),
        (WIDE, dict(rule='botleneck'), ValueError, r'rule must be one of .*nearest: bottleneck'),
        (WIDE, dict(input_shape=(3, 8, 8)), ValueError, r'cannot be run on input shape \(3, 8, 8\)'),
        ('no/such.pth', {}, FileNotFoundError, 'no checkpoint at no/such.pth'),
        ('torchvision:resnet5', {}, ValueError, "torchvision has no classifier 'resnet5'"),
    ],
)
def test_mistakes(source, options, error, message):
    with pytest.raises(error, match=message) as caught:
        build(source, **options)
    assert '\n' not in str(caught.value)
