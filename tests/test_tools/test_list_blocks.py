import subprocess
import sys
from pathlib import Path

import pytest

from mmrecast.registry import MODELS

TOOL = Path(__file__).parents[2] / 'tools' / 'list_blocks.py'
CONFIG = """
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=29, block='bottleneck', shortcut='B', widths=(4, 8, 16)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
)
data_preprocessor = dict(type='BatchPreprocessor', input_shape=(3, 16, 16))
model = dict(
    type='Recasting', teacher=teacher, teacher_ckpt='no/such/file.pth',
    recipe=[dict(source='backbone.layer1.*', target='ConvBlock')],
)
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    return tmp_path / 'config.py'


@pytest.fixture
def show(call):
    """Run the tool in this process: (exit status, output, error)."""
    return call


def row_of(text, path, which=0):
    rows = [line.split() for line in text.split('\n') if f' {path} ' in line]
    return rows[which]


def test_a_config_as_a_command(config):
    done = subprocess.run([sys.executable, str(TOOL), str(config)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert text.startswith('ImageClassifier on 3×16×16: 9 blocks, 5 classes\nbefore them: backbone.conv1, backbone.bn1')
    first = [
        '0',
        'backbone.layer1.0',
        'Bottleneck',
        'bottleneck',
        '4×16×16',
        '16×16×16',
        '1',
        '–',
        'ConvBlock',
        '4×16×16',
    ]
    assert row_of(text, 'backbone.layer1.0') == first
    assert row_of(text, 'backbone.layer2.0')[6:] == ['2', '–', 'rebuilt', 'for', '4', 'input', 'channels']
    assert row_of(text, 'backbone.layer3.2')[7:] == ['neck.gap,', 'head.fc', 'kept']
    # By hand: 1x1 4→4, 3x3 4→4, 1x1 4→16, 1x1 projection 4→16 make 288 weights; one 3x3 4→4 has 144.
    assert '288 → 144' in ' '.join(row_of(text, 'backbone.layer1.0', 1))
    assert [line.split()[0] for line in text.strip().split('\n')[-1:]] == ['total']


def test_the_command_tells_mistakes_in_one_line(config):
    command = [sys.executable, str(TOOL), str(config), '--cfg-options', 'model.recipe.0.source=backbone.layer9.*']
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count('\n')) == (2, '', 1), done.stderr
    assert done.stderr.startswith("error: pattern 'backbone.layer9.*' matches nothing (nearest: backbone.layer")


def test_names_of_the_libraries(show):
    status, text, _ = show('torchvision:resnet18', '--shape', 3, 32, 32)
    assert (status, text.split('\n')[0]) == (0, 'ResNet on 3×32×32: 8 blocks, 1000 classes')
    expected = ['2', 'layer2.0', 'BasicBlock', 'basic', '64×8×8', '128×4×4', '2', '–']
    assert row_of(text, 'layer2.0') == expected and 'becomes' not in text
    status, text, _ = show('resnet18_8xb16_cifar10', '--shape', 3, 32, 32)
    assert (status, text.split('\n')[0]) == (0, 'ImageClassifier on 3×32×32: 8 blocks, 10 classes')


def test_networks_without_known_blocks(show):
    status, text, _ = show('torchvision:squeezenet1_1', '--shape', 3, 64, 64)
    assert status == 0 and text.split('\n')[1].startswith('no block of a known class: --source PATTERN')
    status, text, _ = show('torchvision:densenet121', '--shape', 3, 32, 32, '--source', 'features.denseblock*')
    assert row_of(text, 'features.denseblock2')[2:7] == ['_DenseBlock', 'dense', '128×4×4', '512×4×4', '1']
    glue = 'features.transition1.norm, features.transition1.relu, features.transition1.conv, features.transition1.pool'
    assert glue in text


def test_what_is_left_out_is_told(show, tmp_path, monkeypatch):
    (tmp_path / 'odd_net.py').write_text("""
from torch import nn
from mmrecast.blocks import ConvBlock
from mmrecast.registry import MODELS

@MODELS.register_module()
class OddNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (ConvBlock(4, 4) for _ in range(4))
        self.stem, self.odd, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.a(x)
        return self.fc(self.odd(self.b(self.d(self.d(y))) + y).mean((2, 3)))
""")
    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['odd_net'])\nmodel = dict(type='OddNet')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS._module_dict))
    status, text, _ = show(tmp_path / 'config.py', '--shape', 3, 8, 8)
    assert status == 0
    assert 'OddNet on 3×8×8: 2 blocks, 5 classes' in text
    assert "no chain: 'logits' is not fed by 'b' alone (a reaches it past 'b')" in text
    assert 'left out: c is called 0 times' in text and 'left out: d is called 2 times' in text
    status, _, error = show(tmp_path / 'config.py', '--shape', 3, 8, 8, '--source', 'odd')
    assert status == 2 and error.startswith("error: the blocks around 'odd' are not a chain: 'odd' is not fed by 'b'")


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['no/such.py'], 'error: there is no config file no/such.py\n'),
        (['torchvision:resnet5'], "error: torchvision has no classifier 'resnet5' (nearest: resnet"),
        (
            ['resnet18_8xb16_cifar'],
            "error: mmpretrain has no model 'resnet18_8xb16_cifar' (nearest: resnet18_8xb16_cif",
        ),
        (['resnet18_8xb16_cifar10', '--cfg-options', 'a=1'], 'error: --cfg-options needs a config file, not the name'),
        (['torchvision:resnet18', '--shape', '1', '32', '32'], 'error: ResNet does not take an input of (1, 32, 32): '),
    ],
)
def test_mistakes(show, args, message):
    status, text, error = show(*args)
    assert (status, text, error.count('\n')) == (2, '', 1) and error.startswith(message)
