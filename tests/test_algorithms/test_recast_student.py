"""The student of a recipe for those that train it from scratch."""

import pytest
import torch
from tiny import SHAPE, classifier
from torch import nn

from mmrecast.apis import load_student, save_student
from mmrecast.models import build_network
from mmrecast.registry import MODELS

RECIPE = [dict(source='backbone.layer*.*', target='ConvBlock')]


def build(source):
    return MODELS.build(dict(type='RecastStudent', source=source, recipe=RECIPE, input_shape=SHAPE))


def test_architecture_and_weights(tmp_path):
    """Every source is a convolution; the weights are Xavier-uniform, those of stem and classifier, too."""
    torch.manual_seed(0)
    student = build(classifier(widths=(16, 32, 64)))
    convs = {name: m for name, m in student.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert {type(student.get_submodule(f'backbone.layer{n}.0')).__name__ for n in (1, 2, 3)} == {'ConvBlock'}
    assert sorted(convs) == ['backbone.conv1', *(f'backbone.layer{n}.0.conv' for n in (1, 2, 3)), 'head.fc']
    for name, layer in convs.items():
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound, name
    save_student(tmp_path / 'student.pth', student, student.origin)
    images = torch.randn(2, *SHAPE)
    assert torch.equal(load_student(tmp_path / 'student.pth')(images), student.eval()(images))


def test_seed_decides():
    one, two, other = ((torch.manual_seed(s), build(classifier()))[1].head.fc.weight for s in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_of_a_network():
    student = build(build_network(classifier()))
    assert student.origin.constructor is None and [e.action for e in student.origin.plan.entries] == ['recast'] * 3


def test_wrong_recipe():
    with pytest.raises(ValueError, match="'backbone.layer7.*' matches nothing"):
        MODELS.build(dict(type='RecastStudent', source=classifier(), input_shape=SHAPE,
                          recipe=[dict(source='backbone.layer7.*', target='ConvBlock')]))  # fmt: skip


def test_weights_that_would_be_drawn_anew_are_not_fetched(tmp_path):
    """A config may name the teacher as it is; weights that are not there would end it."""
    source = dict(type='TorchvisionClassifier', name='resnet18', num_classes=5, weights=str(tmp_path / 'not_there.pth'))
    with pytest.raises(FileNotFoundError, match='not_there.pth'):
        build_network(source)
    recipe = [dict(source='layer4.1', target='ConvBlock')]
    student = MODELS.build(dict(type='RecastStudent', source=source, recipe=recipe, input_shape=(3, 32, 32)))
    assert 'weights' not in student.origin.constructor and student.fc.out_features == 5
