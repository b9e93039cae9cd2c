"""A block of a user's own, in one short file outside the package."""

import copy
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from mmrecast.models import build_network
from mmrecast.registry import BLOCKS
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.chain import find_chain
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.student_file import Origin, load_student, save_student

BLOCK = """
from torch import nn

from mmrecast.registry import BLOCKS


@BLOCKS.register_module()
class Factorised(nn.Module):
    replaces = ('basic', 'bottleneck')

    def __init__(self, in_channels, out_channels, stride=1, rank=2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, rank, (3, 1), (stride, 1), (1, 0), bias=False),
            nn.Conv2d(rank, out_channels, (1, 3), (1, stride), (0, 1), bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.body(x)
"""
DERIVED = """
from torch import nn

from mmrecast.blocks import TargetBlock
from mmrecast.registry import BLOCKS


@BLOCKS.register_module()
class Halving(TargetBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1)

    @classmethod
    def preferred_width(cls, source):
        return source.out_channels // 2

    def forward(self, x):
        return self.conv(x).relu()
"""
CONFIG = """
custom_imports = dict(imports=['my_blocks'], allow_failed_imports=False)
recipe = [dict(source='backbone.layer2.*', target=dict(type='Factorised', rank=3))]
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write ``my_blocks.py`` where Python finds it; its registration is undone afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(BLOCKS, '_module_dict', dict(BLOCKS._module_dict))
    monkeypatch.delitem(sys.modules, 'my_blocks', raising=False)

    def write(code):
        (tmp_path / 'my_blocks.py').write_text(code)
        (tmp_path / 'config.py').write_text(CONFIG)
        return Config.fromfile(tmp_path / 'config.py')

    yield write
    sys.modules.pop('my_blocks', None)


def test_a_plain_module_serves_as_a_target(own, toys):
    recipe = own(BLOCK).recipe
    net = build_network(toys.cifar(14, widths=(4, 8, 16)))
    plan = make_plan(net, recipe, (3, 16, 16))
    assert [e.target and e.target['stride'] for e in plan.entries] == [None, None, 2, 1, None, None]
    student = check_plan(net, plan).eval()
    block = student.backbone.layer2[0]
    assert type(block).__module__ == 'my_blocks' and block.body[0].weight.shape == (3, 4, 3, 1)

    # Recast again: of a class without a describer, but named.
    again = find_chain(student, (3, 16, 16), ('backbone.layer2.0',))
    assert [b.source.kind for b in again.blocks] == 2 * ['basic'] + 2 * ['module'] + 2 * ['basic']
    back = make_plan(student, [dict(source='backbone.layer2.*', target='ConvBlock')], (3, 16, 16))
    assert check_plan(copy.deepcopy(student), back)(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_a_stored_student_needs_its_module_imported(own, tmp_path):
    own(BLOCK)
    constructor = dict(type='TorchvisionClassifier', name='resnet18', num_classes=5)
    net = build_network(constructor)
    plan = make_plan(net, [dict(source='layer1.*', target='Factorised')], (3, 32, 32))
    student = check_plan(net, plan).eval()
    path = tmp_path / 'student.pth'
    save_student(path, student, Origin(constructor, plan))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_student(path)(x), student(x))
    code = f"""
import sys, mmrecast, torch
sys.path.insert(0, {str(tmp_path)!r})
from mmrecast.surgery.student_file import load_student
try:
    load_student({str(path)!r})
except ValueError as error:
    print(error)
assert 'my_blocks' not in sys.modules
import my_blocks
torch.save(load_student({str(path)!r})(torch.zeros(1, 3, 32, 32)), {str(tmp_path / 'out.pt')!r})
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f'the student of {path} cannot be built: '
        "the plan names a block 'Factorised' that is not registered: import its module first\n"
    )
    assert (tmp_path / 'out.pt').exists()


def test_what_it_cannot_replace_is_refused(own, toys):
    recipe = own(BLOCK).recipe
    net = build_network(toys.cifar(8, widths=(4, 8, 16)))
    conv = check_plan(net, make_plan(net, [dict(source='backbone.layer*.*', target='ConvBlock')], (3, 16, 16)))
    message = "Factorised cannot replace 'backbone.layer2.0', a conv block: it replaces basic, bottleneck"
    with pytest.raises(ValueError, match=message):
        make_plan(conv, recipe, (3, 16, 16))


def test_a_target_may_prefer_a_width(own, toys):
    own(DERIVED)
    net = build_network(toys.cifar(14, widths=(4, 8, 16)))
    recipe = [dict(source='backbone.layer1.*', target=dict(type='Halving', width_ratio=2)),
              dict(source='backbone.layer2.1', target='Halving')]  # fmt: skip
    plan = make_plan(net, recipe, (3, 16, 16))
    assert [(e.action, e.out_channels) for e in plan.entries] == [
        ('recast', 4), ('recast', 4), ('keep', 8), ('recast', 4), ('rebuild', 16), ('keep', 16),
    ]  # fmt: skip
    assert check_plan(net, plan).backbone.layer2[1](torch.zeros(1, 8, 4, 4)).shape == (1, 4, 4, 4)
