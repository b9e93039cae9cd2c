"""What the benchmark of the data path measures: our path, its share of a step, and files like ImageNet's."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
TOOL = FOLDER / 'data_pipeline.py'
SMALL = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=8, widths=(4, 6, 8)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=8),
)
TINY = ('--images', 64, '--batch-size', 8, '--turns', 1, '--seconds', 0.01, '--steps', 1)


@pytest.fixture
def tool(loaded, monkeypatch):
    # small, of few classes: the networks do not matter here
    monkeypatch.setattr(loaded, 'read_config', lambda path: SimpleNamespace(teacher=SMALL))
    monkeypatch.setattr(loaded, 'RESNET18', SMALL)
    plain = loaded.shares
    monkeypatch.setattr(loaded, 'shares', lambda teacher, source, *rest: plain(teacher, 'backbone.layer*.*', *rest))
    return loaded


def test_files_are_like_imagenets(tool, tmp_path):
    module = sys.modules['jpeg_tree']
    files = sorted(module.write_tree(tmp_path, 5, 500, 375).rglob('*.JPEG'))
    assert [f'{f.parent.name}/{f.name}' for f in files] == [
        'class0/0.JPEG', 'class0/4.JPEG', 'class1/1.JPEG', 'class2/2.JPEG', 'class3/3.JPEG',
    ]  # fmt: skip
    assert 60_000 < np.mean([f.stat().st_size for f in files]) < 160_000  # ImageNet's have 110 kB
    pixels = np.asarray(Image.open(files[0])).astype(float)
    assert pixels.shape == (375, 500, 3)
    assert np.abs(np.diff(pixels, axis=1)).mean() < 15 < pixels.std()  # smooth, but not plain


@pytest.mark.parametrize('workers', [0, 1])
def test_files_go_through_the_configs_path(tool, tmp_path, workers):
    module = sys.modules['jpeg_tree']
    loader, preprocessor = module.jpeg_path(module.write_tree(tmp_path, 4, 260, 240), 3, workers)
    batch = next(iter(loader))
    assert batch['inputs'].dtype == torch.uint8 and batch['inputs'].shape == (3, 3, 224, 224)
    assert len(loader) > 1e8  # it does not end while something is measured
    assert preprocessor(batch, True)['inputs'].shape == (3, 3, 224, 224) and preprocessor.flip


def test_the_share_is_the_data_over_the_whole_step(tool, monkeypatch):
    """Two steps of 5 s each, of which 1 and 2 s go into the data, behind one that warms up."""
    module = sys.modules['data_share']
    clock = iter([0, 9, 10, 10, 11, 15, 17, 20])  # asked and had; begun, asked, had, asked, had; end
    monkeypatch.setattr(module, 'time', SimpleNamespace(perf_counter=lambda: next(clock)))
    path = tool.ours(np.zeros((8, 3, 32, 32), np.uint8), np.zeros(8, np.int64), 4)
    (share,) = module.shares(SMALL, 'backbone.layer*.*', path, [-1], 2)
    assert share == module.Share('finetune', 4, 0, 0.8, 1500.0, 5000.0, 0.3)


def test_the_command_line_writes_what_it_prints(call, tool, tmp_path):
    out = tmp_path / 'data.json'
    files = ('--jpegs', 4, '--jpeg-size', 64, 48, '--jpeg-batch-size', 2, '--workers', 0, 1)
    status, printed, _ = call(*TINY, *files, '--out', out)
    assert status == 0
    content = json.loads(out.read_text())
    assert content['mmrecast_images_per_second'] > content['mmpretrain_images_per_second'] > 0
    assert content['jpeg']['files'] == 4 and content['jpeg']['pixels'] == [64, 48]
    assert content['jpeg']['images_per_second_by_workers'].keys() == {'0', '1'}
    beside = content['beside_training']
    assert [(s['stage'], s['batch_size'], s['workers']) for s in beside['cifar']] == [
        ('recast backbone.layer1.0', 8, 0), ('finetune', 8, 0),
    ]  # fmt: skip
    assert [s['workers'] for s in beside['jpeg']] == [0, 0, 1, 1]
    assert all(0 < s['share'] < 1 for own in beside.values() for s in own)
    assert 'data_pipeline.py --images 64' in content['command'] and content['machine']['threads'] == 1
    assert f'ratio {content["ratio"]}' in printed and printed.count('finetune') == 3


def test_without_files_there_are_none(call, tool, tmp_path):
    out = tmp_path / 'data.json'
    assert call(*TINY, '--jpegs', 0, '--out', out)[0] == 0
    content = json.loads(out.read_text())
    assert 'jpeg' not in content and content['beside_training'].keys() == {'cifar'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['--images', 4, '--batch-size', 8],
            'expected at least one batch .* got 4 images in batches of 8 and 0 workers',
        ),
        (
            ['--workers', 2, -1],
            'expected .* --workers of at least 0, got 50000 images in batches of 128 and -1 workers',
        ),
        (['--turns', 0], 'turns must be at least 1, got 0'),
        (['--out', 'no/such/data.json'], '--out no/such/data.json is no file in a folder that is there'),
    ],
)
def test_mistakes_are_told_in_one_line(call, tool, arguments, message):
    status, _, error = call(*arguments)
    assert status == 2 and re.match(f'error: .*{message}', error.splitlines()[-1])
