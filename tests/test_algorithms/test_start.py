"""A network as its training begins: drawn by its own library's rules, or with the weights it has."""

import copy
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from tiny import SHAPE, classifier, differing, tensors
from torch import nn

from mmrecast.algorithms.start import start_network
from mmrecast.apis import save_student
from mmrecast.models import build_network
from mmrecast.surgery.student_file import Origin

pytestmark = pytest.mark.usefixtures('registered')
NETWORK = classifier(widths=(4, 8, 16), shortcut='B')


def constructor(origin):
    """Return the config without the scope that it is read in."""
    return {key: value for key, value in origin.constructor.items() if key != '_scope_'}


def drawn(make):
    torch.manual_seed(3)
    return make()


def test_openmmlabs_networks_initialise_themselves():
    """Its constructors leave PyTorch's weights; the linear head has a deviation of 0.01, convolutions He's."""
    network, origin = drawn(lambda: start_network(NETWORK))
    plain = drawn(lambda: build_network(NETWORK))
    assert 'head.fc.weight' in differing(tensors(network), tensors(plain))
    plain = drawn(lambda: build_network(NETWORK))
    plain.init_weights()
    assert not differing(tensors(network), tensors(plain))
    assert network.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert constructor(origin) == NETWORK and origin.plan is origin.widths is None


def test_nothing_is_said_of_it(capfd, monkeypatch):
    """mmengine prints a line per parameter while it initialises; what level the logger had, it has again."""
    logger = MMLogger.get_current_instance()
    to_files = [one for one in logger.handlers if isinstance(one, logging.FileHandler)]
    monkeypatch.setattr(logger, 'handlers', [one for one in logger.handlers if one not in to_files])
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        start_network(NETWORK)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(level)
    assert capfd.readouterr() == ('', '')


def test_other_libraries_draw_when_they_are_built():
    for config in (dict(type='PlainNet'), dict(type='TorchvisionClassifier', name='squeezenet1_1', num_classes=10)):
        network, origin = drawn(lambda config=config: start_network(config))
        assert not differing(tensors(network), tensors(drawn(lambda config=config: build_network(config))))
        assert constructor(origin) == config and origin.plan is origin.widths is None


def test_a_module_keeps_its_weights():
    for given in (build_network(NETWORK), build_network(dict(type='PlainNet')), nn.Linear(2, 2)):
        before = tensors(given)
        network, origin = start_network(given)
        assert network is given and not differing(before, tensors(given)) and origin == Origin()


def test_students_of_a_recipe_or_narrowed_have_begun():
    """Xavier's weights of a recipe, or those of narrow widths, are not drawn a second time; both say what they are."""
    recast = dict(
        type='RecastStudent', source=NETWORK, recipe=[dict(source='backbone.layer*.*', target='ConvBlock')],
        input_shape=SHAPE,
    )  # fmt: skip
    narrow = dict(type='NarrowStudent', source=NETWORK, alpha=2, above=4, input_shape=SHAPE)
    for config in (recast, narrow):
        network, origin = drawn(lambda config=config: start_network(copy.deepcopy(config)))
        expected = drawn(lambda config=config: build_network(copy.deepcopy(config)))
        assert not differing(tensors(network), tensors(expected))
        assert origin is network.origin and constructor(origin) == NETWORK
    assert origin.widths is not None and origin.plan is None


def test_a_student_file_brings_its_weights(tmp_path):
    given = build_network(NETWORK)
    save_student(str(tmp_path / 'student.pth'), given, Origin(NETWORK))
    for path in (str(tmp_path / 'student.pth'), tmp_path / 'student.pth'):
        network, origin = start_network(path)
        assert not differing(tensors(network), tensors(given)) and constructor(origin) == NETWORK


@pytest.mark.parametrize(
    ('source', 'kind', 'said'),
    [
        ('absent.pth', FileNotFoundError, 'no checkpoint at absent.pth'),
        ('configs/absent.py', FileNotFoundError, 'absent.py'),
        (dict(type='PlainNot'), KeyError, "'PlainNot' is not registered in mmrecast.model .nearest: PlainNet"),
        (dict(type='PlainNet', widht=3), TypeError, 'widht'),
        (3, TypeError, '^a network is given as a config, .* or an nn.Module, got int$'),
    ],
)  # fmt: skip
def test_what_is_no_network(source, kind, said):
    with pytest.raises(kind, match=said):
        start_network(source)


def test_a_pretrained_file_is_read_with_care(tmp_path):
    cfg = copy.deepcopy(NETWORK)
    cfg['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))
    torch.save(build_network(NETWORK).backbone.state_dict(), tmp_path / 'x.pth')
    network, _ = start_network(cfg)
    assert torch.equal(network.backbone.conv1.weight, torch.load(tmp_path / 'x.pth')['conv1.weight'])
    torch.save(dict(x=logging.Handler), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='x.pth holds logging.Handler, which a checkpoint may not; it was not run'):
        start_network(cfg)
