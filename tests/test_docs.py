"""The code shown in docs/extending.md is run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny import recasting

from mmrecast.apis import load_student, train
from mmrecast.blocks import SourceInfo
from mmrecast.registry import BLOCKS, MODELS
from mmrecast.stages import Stage

ROOT = Path(__file__).parents[1]
CODE = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/extending.md').read_text(), re.S)

TINY = """
_base_ = ['{root}/configs/distill/_base_/datasets/digits.py', '{root}/configs/distill/_base_/default_runtime.py']
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=8, in_channels=1, widths=(4, 8, 8)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=8),
)
model = dict(type='Recasting', teacher=teacher, recipe=[dict(source='backbone.layer1.*', target='ConvBlock')])
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR')
train_cfg = dict(type='StagedLoop', stages=[dict(kind='recast', iters=2), dict(kind='finetune', iters=2)])
"""


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the files of the page, the config's base being a tiny one."""
    blocks, config = (next(c for c in CODE if c.startswith(f'# {name}')) for name in ('my_blocks.py', 'my_config.py'))
    (tmp_path / 'my_blocks.py').write_text(blocks)
    (tmp_path / 'tiny.py').write_text(TINY.format(root=ROOT))
    base = re.search(r"^_base_ = '(.*)'$", config, re.M)[1]
    assert (ROOT / base).is_file()
    (tmp_path / 'my_config.py').write_text(config.replace(base, 'tiny.py'))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_own_block_is_at_most_twenty_lines() -> None:
    code = next(c for c in CODE if c.startswith('# my_blocks.py')).splitlines()
    assert sum(bool(line.strip()) and not line.startswith('#') for line in code) <= 20


def test_own_block_from_a_config(shown: Path) -> None:
    result = train(Config.fromfile(shown / 'my_config.py'), work_dir=str(shown / 'run'))
    entry = next(e for e in result['plan']['entries'] if e['action'] == 'recast')
    assert (entry['path'], entry['target']['type']) == ('backbone.layer3.0', 'GhostBlock')
    assert [stage['name'] for stage in result['stages']] == ['recast backbone.layer3.0', 'finetune']
    block = load_student(shown / 'run/student.pth').backbone.layer3[0]
    x = torch.rand(1, 8, 4, 4)
    assert torch.equal(block(x)[:, :4], block.primary(x).relu())


def test_own_block_of_an_unknown_student_file(shown: Path) -> None:
    """A student with a block of another's file says so where that file was not imported."""
    train(Config.fromfile(shown / 'my_config.py'), work_dir=str(shown / 'run'))
    code = f"from mmrecast.apis import load_student\nload_student('{shown}/run/student.pth')"
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd='/', check=False)
    assert run.returncode == 1
    assert 'GhostBlock' in run.stderr.splitlines()[-1] and 'import' in run.stderr.splitlines()[-1]


def test_describer_of_the_page() -> None:
    namespace: dict = {}
    exec(next(c for c in CODE if c.startswith('from mmrecast.surgery.describe')), namespace)
    described = namespace['my_block'](torch.nn.ModuleDict({'conv1': torch.nn.Conv2d(3, 5, 3, 2)}))
    assert (described.stride, described.mid_channels, described.shortcut) == (2, 5, 'downsample')


def test_options_of_a_recasting_on_the_page_exist() -> None:
    """The types are the reader's; ours stand for them, the connector without its widths."""
    model: dict = {}
    exec(next(c for c in CODE if 'MyLoss' in c), model)
    options = dict(model['model'], block_loss=dict(type='L1Loss'), connector=dict(type='ConvModuleConnector'))
    assert set(options) == {'compare', 'block_loss', 'connector'}
    algorithm = MODELS.build(recasting(recipe=[dict(source='backbone.layer3.0', target='ConvBlock')], **options))
    algorithm.begin_stage(Stage('recast', iters=1, block='backbone.layer3.0'))
    assert algorithm.connector.in_channel == 8


def test_names_of_the_page_exist() -> None:
    assert BLOCKS.get('ConvBlock').preferred_width(SourceInfo('bottleneck', 8, 32, 1, 8)) == 8
