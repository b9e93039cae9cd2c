import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from mmrecast.models import build_network, untrained
from mmrecast.registry import MODELS
from mmrecast.surgery.apply import replay
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.student_file import Origin, save_student

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'get_complexity.py'
RECIPE = [dict(source='backbone.layer1.*', target='ConvBlock')]
# tiny.classifier() on 1x8x8: widths 4, 6, 8 at 8, 4, 2 pixels, one block of two 3x3 each, shortcuts without weights
STEM, ONE, TWO, THREE = 9 * 4, 2 * 144, 9 * (24 + 36), 9 * (48 + 64)
CONV = 144  # what block one becomes
MULTS = [STEM * 64, ONE * 64, TWO * 16, THREE * 4]
ACTS = [64, 2 * 4 * 64, 4 * 64 + 6 * 16, 6 * 16 + 8 * 4]
MEASURES = ('params', 'mults', 'acts')


@pytest.fixture
def config(tmp_path, quick):
    return tiny.write(
        tiny.config(tiny.recasting(recipe=RECIPE, teacher_ckpt='no/such/file.pth'), []), tmp_path / 'c.py'
    )


@pytest.fixture
def student(tmp_path):
    constructor = untrained(tiny.classifier())
    network = build_network(constructor)
    plan = make_plan(network, RECIPE, tiny.SHAPE)
    save_student(tmp_path / 'student.pth', replay(network, plan), Origin(constructor, plan))
    return tmp_path / 'student.pth'


@pytest.fixture
def show(call):
    """Run the tool in this process: (exit status, output, error)."""
    return call


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a class ``Own`` and a config of it."""

    def write(code):
        name = f'own_{tmp_path.name}'
        head = 'from torch import nn\nfrom mmrecast.registry import MODELS\n'
        (tmp_path / f'{name}.py').write_text(f'{head}{code}\nMODELS.register_module(module=Own)\n')
        (tmp_path / 'c.py').write_text(f"custom_imports = dict(imports=['{name}'])\nmodel = dict(type='Own')\n")
        return tmp_path / 'c.py'

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS._module_dict))
    return write


def sums(rows):
    return {measure: sum(row[measure] for row in rows) for measure in MEASURES}


def test_json_of_a_config_as_a_command(config):
    command = [sys.executable, str(TOOL), str(config), '--json']
    done = subprocess.run(
        command, capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(Path(tiny.__file__).parent))
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # nothing but JSON
    assert (found['name'], found['input_shape'], found['convention']) == ('c', [1, 8, 8], 'cifar')
    teacher, student = found['networks']['teacher'], found['networks']['student']
    assert teacher['totals'] == dict(params=STEM + ONE + TWO + THREE, mults=sum(MULTS), acts=sum(ACTS))
    less = dict(params=ONE - CONV, mults=(ONE - CONV) * 64, acts=4 * 64)
    assert student['totals'] == {m: teacher['totals'][m] - less[m] for m in MEASURES}
    for network in (teacher, student):
        assert sums(network['blocks']) == sums(network['layers']) == network['totals']
        assert [b['name'] for b in network['blocks']] == ['stem', *(f'backbone.layer{n}.0' for n in (1, 2, 3))]
        assert {layer['block'] for layer in network['layers']} == {b['name'] for b in network['blocks']}
    assert [list(sums([block]).values()) for block in teacher['blocks']] == [
        list(row) for row in zip((STEM, ONE, TWO, THREE), MULTS, ACTS, strict=True)
    ]
    layer = student['layers'][1]
    assert layer == dict(
        path='backbone.layer1.0.conv', type='Conv2d', params=CONV, mults=CONV * 64, acts=256, in_shape=[4, 8, 8],
        out_shape=[4, 8, 8], calls=1, block='backbone.layer1.0',
    )  # fmt: skip
    norms = 2 * (4 * 3 + 6 * 2 + 8 * 2)  # scale and shift
    assert teacher['fvcore']['params'] == teacher['totals']['params'] + norms + 8 * 10 + 10
    assert teacher['fvcore']['flops_by_operator']['conv'] == teacher['totals']['mults']


def test_text_puts_student_beside_teacher(show, student):
    status, text, error = show(student, '--layers')
    assert (status, error) == (0, '')
    lines = text.split('\n')
    assert lines[0].endswith('on 1×8×8, convention cifar: weights of convolutions')
    assert lines[2] == 'teacher ImageClassifier → student ImageClassifier'
    rows = {line.split()[0]: ' '.join(line.split()[1:]) for line in lines if line.startswith(' ')}
    assert rows['backbone.layer1.0'] == '288 → 144 18.4 k → 9.2 k 512 → 256'
    assert rows['backbone.layer2.0'] == '540 8.6 k 352'
    assert 'student: 1.08x fewer parameters, 1.38x fewer multiplications, 1.32x less activation load' in lines
    assert rows['backbone.layer1.0.conv'] == 'Conv2d 4×8×8 4×8×8 1 144 9.2 k 256'
    assert 'layers of the teacher' in lines and 'layers of the student' in lines
    assert 'layers of the teacher' not in show(student)[1]


def test_a_narrowed_network_beside_the_full_one(show, tmp_path):
    """By hand: stages 2 and 3 of widths 6 and 8 become 3 and 4; option-B shortcuts are 1x1."""
    model = dict(type='AdjoinedNetwork', network=tiny.classifier(shortcut='B'), alpha=2, above=4)
    path = tiny.write(tiny.config(model | dict(data_preprocessor=tiny.preprocessor()), []), tmp_path / 'c.py')
    status, text, error = show(path)
    assert (status, error) == (0, '')
    lines = text.split('\n')
    assert lines[2] == 'teacher ImageClassifier → student ImageClassifier'
    rows = {line.split()[0]: ' '.join(line.split()[1:]) for line in lines if line.startswith(' ')}
    two, two_half = 9 * (24 + 36) + 24, 9 * (12 + 9) + 12
    three, three_half = 9 * (48 + 64) + 48, 9 * (12 + 16) + 12
    assert rows['backbone.layer1.0'].split()[:3] == ['288', '18.4', 'k']
    assert rows['backbone.layer2.0'].startswith(f'{two} → {two_half} ')
    assert rows['backbone.layer3.0'].startswith(f'{three / 1000:.1f} k → {three_half} ')
    full, small = STEM + ONE + two + three, STEM + ONE + two_half + three_half
    assert any(line.startswith(f'student: {full / small:.2f}x fewer parameters') for line in lines)


def test_resnet50_at_a_quarter_is_as_published(show, repo_root):
    """Convolution weights and multiplications of arXiv 2006.05624's ResNet-50, alpha 4, with torchvision's stem."""
    config = repo_root / 'configs' / 'distill' / 'adjoined' / 'adjoined_resnet50_alpha4_imagenet.py'
    found = json.loads(show(config, '--convention', 'cifar', '--json')[1])['networks']['student']['totals']
    assert (round(found['params'] / 1e6, 3), round(found['mults'] / 1e9, 3)) == (1.705, 1.031)


def test_spans_glue_and_head_of_a_flat_network(show, own):
    config = own("""
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 1)
        self.features, self.fc = nn.Sequential(*layers), nn.Linear(80, 6)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))
""")
    status, text, _ = show(config, '--shape', 3, 8, 8, '--convention', 'imagenet', '--json')
    blocks = json.loads(text)['networks']['teacher']['blocks']
    assert status == 0
    assert [tuple(block.values()) for block in blocks] == [
        ('features.0', 'block', 108, 108 * 64, 3 * 64),
        ('glue behind features.0', 'glue', 0, 0, 4 * 64),
        ('features.4', 'block', 20, 20 * 16, 4 * 16),
        ('head', 'head', 480, 480, 80),
    ]
    assert json.loads(show(config, '--shape', 3, 8, 8, '--json')[1])['networks']['teacher']['blocks'] == blocks[:-1]


def test_networks_without_known_blocks(show):
    status, text, _ = show('torchvision:squeezenet1_1', '--shape', 3, 64, 64)
    assert (status, 'no block of a known class, so its child modules stand there' in text) == (0, True)
    status, text, _ = show('torchvision:squeezenet1_1', '--shape', 3, 64, 64, '--source', 'features.4', 'features.6')
    rows = {line.split()[0]: line.split()[1:] for line in text.split('\n') if line.startswith(' ')}
    # squeeze 128 → 16, expand 16 → 64 by 1x1 and 3x3
    assert status == 0 and rows['features.4'][:2] == [f'{(128 * 16 + 10 * 16 * 64) / 1000:.1f}', 'k']


def test_what_is_in_neither_convention_is_named(show, own):
    config = own("""
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 5)

    def forward(self, x):
        x = self.conv(x).flatten(2)
        return self.fc((x @ x.transpose(1, 2)).mean(2))
""")
    status, text, _ = show(config, '--shape', 3, 8, 8)
    assert status == 0 and 'teacher: not counted, though it multiplies: matmul' in text
    _, text, _ = show(config, '--shape', 3, 8, 8, '--json')
    assert json.loads(text)['networks']['teacher']['uncounted'] == ['matmul']


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['no/such.py'], 'error: there is no config file no/such.py\n'),
        (['no/such.pth'], 'error: no checkpoint at no/such.pth\n'),
        (['torchvision:resnet5'], "error: torchvision has no classifier 'resnet5' (nearest: resnet"),
        (
            ['torchvision:squeezenet1_1', '--shape', 3, 8, 8],
            'error: SqueezeNet cannot be run on input shape (3, 8, 8): Given input size: (128x1x1). Calculated output '
            'size: (128x0x0). Output size is too small\n',
        ),
        (['torchvision:resnet18', '--shape', 3, 0, 8], 'error: an input shape is three numbers (C, H, W) of at least'),
        (['torchvision:resnet18', '--source', 'layer9.*'], "error: pattern 'layer9.*' matches nothing (nearest: layer"),
    ],
)
def test_mistakes(show, args, message):
    status, text, error = show(*args)
    assert (status, text, error.count('\n')) == (2, '', 1) and error.startswith(message)
