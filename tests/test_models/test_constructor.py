import subprocess
import sys

import pytest
from mmengine.config import ConfigDict
from torch import nn

from mmrecast.blocks import ConvBlock
from mmrecast.models import CifarResNet, build_network, check_constructor, network_config, untrained

GOOD = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss')),
)


def with_backbone(**backbone):
    return GOOD | dict(backbone=backbone)


def test_untrained_drops_weights_at_any_depth_and_leaves_the_rest():
    pretrained = dict(type='Pretrained', checkpoint='https://example.org/x.pth')
    cfg = ConfigDict(
        type='A',
        init_cfg=pretrained,
        weights='x.pth',
        parts=[dict(type='B', init_cfg=[pretrained], n=(1, 2.5))],
        inner=dict(pretrained=True, keep=None, flag=False),
    )
    before = cfg.to_dict()
    plain = untrained(cfg)
    assert plain == dict(type='A', parts=[dict(type='B', n=(1, 2.5))], inner=dict(keep=None, flag=False))
    assert (type(plain), type(plain['inner']), type(plain['parts'][0])) == (dict, dict, dict)
    assert cfg.to_dict() == before


def test_untrained_names_classes_by_what_they_are_registered_as():
    cfg = dict(type=CifarResNet, depth=8, norm=dict(type=nn.BatchNorm2d), block=dict(type=ConvBlock))
    plain = untrained(cfg)
    assert (plain['type'], plain['block']['type']) == ('mmrecast.CifarResNet', 'mmrecast.ConvBlock')
    assert plain['norm']['type'] in ('mmengine.BN', 'mmengine.BN2d')
    check_constructor(plain)


def test_untrained_refuses_what_is_no_plain_data():
    with pytest.raises(TypeError, match=r'model.parts\[1\].x is Linear: a constructor holds dict, list'):
        untrained(dict(type='A', parts=[1, dict(x=nn.Linear(1, 1))]))
    with pytest.raises(TypeError, match=r'model: key \(1, 2\) is tuple'):
        untrained({(1, 2): 3})
    with pytest.raises(ValueError, match='model.type: .*Unregistered.* is not registered'):
        untrained(dict(type=type('Unregistered', (nn.Module,), {})))


@pytest.mark.parametrize(
    'cfg',
    [
        GOOD,
        dict(type='CifarResNet', depth=8),
        dict(type='TorchvisionClassifier', name='resnet18', num_classes=10),
        GOOD | dict(_scope_='mmpretrain', train_cfg=dict(augments=[dict(type='Mixup', alpha=0.2)])),
    ],
)
def test_good_constructors_pass_and_build(cfg):
    check_constructor(cfg)
    assert isinstance(build_network(cfg), nn.Module)


@pytest.mark.parametrize('name', ['resnet18_8xb16_cifar10', 'densenet121_4xb256_in1k', 'vgg16bn_8xb32_in1k'])
def test_mmpretrains_configs_make_good_constructors(name):
    check_constructor(untrained(network_config(name)))


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(type='os.system', command='x'), "constructor.type: 'os.system' is not registered"),
        (
            with_backbone(type='os.system', command='x'),
            "constructor.backbone.type: 'os.system' is not registered",
        ),
        (
            GOOD | dict(parts=[dict(type='os.system')]),
            r"constructor.parts\[0\].type: 'os.system' is not registered",
        ),
        (dict(type='antigravity'), "constructor.type: 'antigravity' is not registered"),
        (dict(type='torch.hub.load'), "'torch.hub.load' is not registered"),
        (dict(type='mmpretrain.models.os.system'), "'mmpretrain.models.os.system' is not registered"),
        (dict(type='os.CifarResNet'), "'os.CifarResNet' is not registered"),
        (dict(type='CifarResnet'), r"'CifarResnet' is not registered \(nearest: CifarResNet"),
        (dict(type=print), 'constructor.type: a registered name expected, got builtin_function_or_method'),
        (dict(type='mmpretrain.HuggingFaceClassifier'), 'no part of a network that may be built from a file'),
        (
            with_backbone(type='TIMMBackbone', model_name='x'),
            'constructor.backbone.type: .* no part of a network',
        ),
        (dict(type='mmpretrain.OFA'), "'mmpretrain.OFA' is no part of a network"),
        (dict(type='CifarResNet', depth=8, _scope_='os'), "constructor._scope_: unknown scope 'os'"),
        (
            with_backbone(type='ResNet', init_cfg=dict(type='Pretrained')),
            'constructor.backbone.init_cfg: a .* must not',
        ),
        (
            dict(type='TorchvisionClassifier', name='resnet18', weights='x.pth'),
            "must not load weights, got 'x.pth'",
        ),
        (dict(type='CifarResNet', depth=nn.Linear), 'constructor.depth is type: a constructor holds dict'),
        (dict(depth=8), "a constructor is a dict with 'type', got dict"),
        ([dict(type='CifarResNet')], "a constructor is a dict with 'type', got list"),
    ],
)
def test_bad_constructors_are_refused(cfg, message):
    with pytest.raises(ValueError, match=message):
        check_constructor(cfg)


def test_nothing_that_a_constructor_names_is_imported_or_called(tmp_path):
    (tmp_path / 'trap.py').write_text("raise SystemExit('imported')\n")
    (tmp_path / 'trapped').mkdir()
    (tmp_path / 'trapped' / '__init__.py').write_text('')
    (tmp_path / 'trapped' / 'registry.py').write_text("raise SystemExit('imported')\n")
    code = """
import sys
from mmrecast.models import check_constructor
sys.path.insert(0, sys.argv[1])
net = dict(type='CifarResNet', depth=8)
bad = [dict(type='trap'), dict(type='trap.run'), dict(type='trapped.Net')]
for cfg in [*bad, net | dict(_scope_='trapped'), net | dict(x=[dict(type='trap.run')])]:
    try:
        check_constructor(cfg)
    except ValueError:
        continue
    sys.exit(f'accepted {cfg}')
assert not any(name.startswith('trap') for name in sys.modules)
"""
    run = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    'name',
    [
        'answers.pkl',
        '/etc/passwd',
        '../x',
        'http://localhost/x',
        's3:/x',
        'C:\\\\x',
        'X.PTH',
        '~',
        '..',
        'a.txt',
        'x.yaml',
    ],
)
def test_files_and_addresses_are_refused_whatever_argument_they_stand_for(name):
    with pytest.raises(ValueError, match=r'constructor.backbone.what: a constructor must not name a file or an addr'):
        check_constructor(with_backbone(type='mmrecast.CifarResNet', what=name))


@pytest.mark.parametrize('name', ['VQAGenerationHead', 'GroundingHead', 'ImageToImageRetriever'])
def test_classes_that_read_files_are_refused(name):
    with pytest.raises(ValueError, match='is no part of a network that may be built from a file'):
        check_constructor(GOOD | dict(head=dict(type=name)))
