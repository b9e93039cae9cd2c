import sys

import pytest
import torch
from torch import nn

from mmrecast.models import TimmClassifier, build_network, check_constructor, network_config, untrained
from mmrecast.surgery.apply import replay
from mmrecast.surgery.chain import find_chain
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.student_file import Origin, load_student, save_student

timm = pytest.importorskip('timm')


@pytest.fixture
def no_download(monkeypatch):
    """Fail where timm would fetch something."""
    for name in ('load_model_config_from_hf', 'load_model_config_from_path', 'load_checkpoint'):
        monkeypatch.setattr(f'timm.models._factory.{name}', lambda *args, **kwargs: pytest.fail('something was read'))
    for name in ('load_state_dict_from_hf', 'load_state_dict_from_url', 'load_state_dict_from_path'):
        monkeypatch.setattr(f'timm.models._builder.{name}', lambda *args, **kwargs: pytest.fail('something was read'))


@pytest.fixture
def published(monkeypatch):
    """Stand in for timm's download: ``fetched`` lists the repositories asked for, ``weights`` is what they hold."""

    class Published:
        fetched: list[str] = []
        weights: dict = {}

    def load(model_id, *args, **kwargs):
        Published.fetched.append(model_id)
        return dict(Published.weights)

    monkeypatch.setattr('timm.models._builder.load_state_dict_from_hf', load)
    monkeypatch.setattr('timm.models._builder.has_hf_hub', lambda **kwargs: True)
    return Published


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_is_timms_own_network(no_download):
    torch.manual_seed(0)
    network = build_network(dict(type='TimmClassifier', name='resnet18', num_classes=7, in_channels=1))
    assert type(network) is timm.models.ResNet
    assert (network.conv1.in_channels, network.layer1[0].conv1.out_channels) == (1, 64)
    assert network.eval()(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    torch.manual_seed(0)
    assert same_weights(network, timm.create_model('resnet18', num_classes=7, in_chans=1))


def test_a_name_with_its_library_is_enough(no_download):
    assert network_config('timm:resnet18') == dict(type='TimmClassifier', name='resnet18', _scope_='mmrecast')
    assert type(build_network('timm:resnet18')) is timm.models.ResNet
    with pytest.raises(ValueError, match=r"'tim:resnet18': unknown library 'tim' \(nearest: timm"):
        build_network('tim:resnet18')


def test_further_arguments_reach_timm():
    assert TimmClassifier('resnet18', drop_rate=0.25).drop_rate == 0.25
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        TimmClassifier('resnet18', width=3)


@pytest.mark.parametrize(('name', 'kind', 'blocks'), [('resnet18', 'basic', 8), ('densenet121', 'dense', 4)])
def test_its_blocks_are_sources(name, kind, blocks):
    chain = find_chain(build_network(f'timm:{name}').eval(), (3, 64, 64))
    assert [block.source.kind for block in chain.blocks] == [kind] * blocks


def test_weights_come_from_a_file(tmp_path, no_download):
    source = timm.create_model('resnet18', num_classes=3)
    torch.save(source.state_dict(), tmp_path / 'resnet18.pth')
    assert same_weights(TimmClassifier('resnet18', str(tmp_path / 'resnet18.pth'), num_classes=3), source)
    with pytest.raises(ValueError, match=r'does not fit ResNet: .*fc.weight \(3, 512\), expected \(4, 512\)'):
        TimmClassifier('resnet18', str(tmp_path / 'resnet18.pth'), num_classes=4)


def test_weights_of_another_network_are_refused(tmp_path):
    """ResNet-34 has eight basic blocks more, each of two convolutions and two BatchNorms of four tensors."""
    torch.save(timm.create_model('resnet18').state_dict(), tmp_path / 'resnet18.pth')
    with pytest.raises(ValueError, match=r'resnet18.pth does not fit ResNet: 80 missing: layer1.2.conv1.weight \(64, '):
        TimmClassifier('resnet34', str(tmp_path / 'resnet18.pth'))


@pytest.mark.parametrize(('weights', 'repository'), [('DEFAULT', 'a1_in1k'), ('tv_in1k', 'tv_in1k')])
def test_timms_own_weights_are_those_named(published, weights, repository):
    source = timm.create_model('resnet18')
    published.weights = source.state_dict()
    published.fetched.clear()
    assert same_weights(TimmClassifier('resnet18', weights), source)
    assert published.fetched == [f'timm/resnet18.{repository}']


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(name='resnet19'), ValueError, r"timm has no classifier 'resnet19' \(nearest: resnet1"),
        (dict(name='resnet18.a1_in1k'), ValueError, "names weights, too: write name='resnet18', weights='a1_in1k'"),
        (dict(name='resnet18', weights='a1'), ValueError, r"resnet18 has no weights 'a1' \(nearest: .*a1_in1k.*\.pth$"),
        (dict(name='coatnet_0_224', weights='DEFAULT'), ValueError, "no weights 'DEFAULT', for which none are publ"),
        (dict(name='resnet18', weights='DEFAULT', num_classes=10), ValueError,
         "weights 'DEFAULT' of resnet18 have 1000 classes, got num_classes=10"),
        (dict(name='resnet18', weights='none.pth'), FileNotFoundError, 'none.pth'),
        (dict(name='hf-hub:timm/resnet18.a1_in1k'), ValueError, 'no hub, folder or file, got .hf-hub:timm'),
        (dict(name='hf_hub:timm/resnet18.a1_in1k'), ValueError, 'no hub, folder or file'),
        (dict(name='local-dir:/etc'), ValueError, 'no hub, folder or file'),
        (dict(name='timm/resnet18'), ValueError, 'no hub, folder or file'),
        (dict(name=18), ValueError, 'no hub, folder or file, got 18'),
        (dict(name='resnet18', checkpoint_path='x.pth'), ValueError, "takes no argument 'checkpoint_path': weights=…"),
        (dict(name='resnet18', pretrained=True), ValueError, "takes no argument 'pretrained': weights=…"),
        (dict(name='resnet18', pretrained_cfg=dict(file='x.pth')), ValueError, "no argument 'pretrained_cfg'"),
        (dict(name='resnet18', pretrained_cfg_overlay=dict(url='x')), ValueError, "no argument 'pretrained_cfg_over"),
        (dict(name='resnet18', cache_dir='x'), ValueError, "takes no argument 'cache_dir'"),
    ],
)  # fmt: skip
def test_what_timm_does_not_have_or_would_fetch_is_refused(no_download, arguments, error, message):
    with pytest.raises(error, match=message):
        TimmClassifier(**arguments)


def test_without_timm_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ModuleNotFoundError, match='^TimmClassifier needs timm: pip install timm$'):
        build_network('timm:resnet18')


# ---- constructors ---------------------------------------------------------------------------------------------------

HUB = 'hf-hub:a/b'
PLUGIN = dict(cfg=dict(type='TimmClassifier', _scope_='mmrecast', model_name=HUB), position='after_conv3')


def classifier(**backbone):
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone)


def test_a_constructor_is_checked_and_builds_the_same_network(no_download):
    cfg = dict(type='TimmClassifier', name='resnet18', weights='DEFAULT', num_classes=5)
    constructor = untrained(network_config(cfg))
    assert constructor == dict(type='TimmClassifier', name='resnet18', num_classes=5, _scope_='mmrecast')
    for good in (constructor, untrained(cfg), classifier(type='mmrecast.TimmClassifier', name='resnet18')):
        check_constructor(good)
    assert build_network(constructor).fc.out_features == 5


def test_a_student_of_it_is_built_from_its_file(tmp_path, no_download):
    cfg = network_config(dict(type='TimmClassifier', name='resnet18', num_classes=5))
    student = build_network(cfg).eval()
    plan = make_plan(student, [dict(source='layer4.*', target='ConvBlock')], (3, 32, 32))
    replay(student, plan).eval()
    save_student(str(tmp_path / 'student.pth'), student, Origin(cfg, plan))
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert load_student(str(tmp_path / 'student.pth'))(image).equal(student(image))


@pytest.mark.parametrize(
    ('constructor', 'message'),
    [
        (dict(type='TimmClassifier', name='resnet18', weights='DEFAULT'), "must not load weights, got 'DEFAULT'"),
        (dict(type='TimmClassifier', name='resnet18', pretrained=True), 'must not load weights, got True'),
        (dict(type='TimmClassifier', _scope_='mmpretrain', model_name=HUB),
         "constructor.type: 'TimmClassifier' is no part of a network .*: write mmrecast.TimmClassifier"),
        (dict(type='mmpretrain.TimmClassifier', model_name=HUB), "'mmpretrain.TimmClassifier' is no part of a network"),
        (classifier(type='TimmClassifier', model_name=HUB), "constructor.backbone.type: 'TimmClassifier' is no part"),
        (classifier(type='ResNet', depth=50, plugins=[PLUGIN]), r'constructor.backbone.plugins\[0\].cfg.type: .Timm'),
    ],
)  # fmt: skip
def test_no_constructor_reaches_mmpretrains_class_of_that_name(constructor, message):
    """mmpretrain's TimmClassifier reads hubs and files; which of the two a bare name means depends on its owner."""
    with pytest.raises(ValueError, match=message):
        check_constructor(constructor)


@pytest.mark.parametrize('name', [HUB, 'local-dir:/etc'])
def test_a_constructor_that_names_a_hub_is_refused_when_it_is_built(no_download, name):
    constructor = dict(type='TimmClassifier', name=name)
    with pytest.raises(ValueError, match='must not name a file or an address'):
        check_constructor(constructor)
    with pytest.raises(ValueError, match='no hub, folder or file'):
        build_network(constructor)
