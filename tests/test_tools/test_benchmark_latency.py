import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny import CHAIN, SHAPE, classifier, recasting

from mmrecast.algorithms.narrow_student import narrow_by
from mmrecast.analysis.block_latency import BlockLatency, Part
from mmrecast.apis.networks import networks_of
from mmrecast.surgery.apply import replay
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.student_file import Origin, build_source, save_student

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'benchmark_latency.py'
RECIPE = [dict(source='backbone.layer*.*', target='ConvBlock')]
QUICK = ['--batch-sizes', '2', '--repeats', '1', '--warmup', '0']


@pytest.fixture
def run(call):
    """Run the tool in this process: (exit status, output, error)."""
    return call


@pytest.fixture
def write(tmp_path):
    """Write a config with this model, return its path."""

    def write_config(model, name):
        Config(dict(model=model)).dump(tmp_path / name)
        return str(tmp_path / name)

    return write_config


@pytest.fixture
def sources(write):
    """Configs with teacher 8 (two recipes, one of them twice, and its own training) and with teacher 14."""
    student = dict(type='RecastStudent', source=classifier(), recipe=RECIPE, input_shape=SHAPE)
    return [
        write(dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=_images()), 'teacher8.py'),
        write(recasting(teacher_ckpt='no/such.pth'), 'all.py'),
        write(recasting(source='backbone.layer1.0'), 'first.py'),
        write(recasting(teacher=classifier(14)), 'deep.py'),
        write(dict(type='SingleTeacherDistill', teacher=classifier(), student=student), 'kd.py'),
    ]


def _images():
    return dict(type='BatchPreprocessor', input_shape=SHAPE)


def test_groups_hold_each_network_once(tool, sources):
    one, other = tool.grouped([*sources, sources[1]], None)
    assert (one.teacher, list(one.networks)) == ('teacher8', ['teacher8', 'all', 'first'])
    assert one.same == dict(teacher8=['ResNet-8'], all=['kd'])
    assert (other.teacher, list(other.networks), other.input_shape) == (
        'ResNet-14',
        ['ResNet-14', 'deep'],
        SHAPE,
    )
    assert [len(plan.steps) if plan else None for plan in one.plans.values()] == [None, 3, 1]
    assert len(tool.grouped(sources[1:3], (1, 16, 16))) == 1


def test_names_that_are_taken_give_way_to_paths(tool, write, tmp_path):
    (tmp_path / 'b').mkdir()
    paths = write(recasting(), 'run.py'), write(recasting(source='backbone.layer1.0'), 'b/run.py')
    assert list(tool.grouped(paths, None)[0].networks) == ['ResNet-8', 'run', paths[1]]


def test_statistics_of_a_trained_student_stay(tool, tmp_path):
    teacher = teacher_of_config(tmp_path)
    plan = make_plan(teacher, RECIPE, SHAPE)
    student = replay(teacher, plan).eval()
    student.backbone.bn1.running_mean.fill_(7.0)
    save_student(str(tmp_path / 'student.pth'), student, Origin(classifier(), plan))
    group = tool.grouped([str(tmp_path / 'student.pth')], None)[0]
    of_teacher, of_student = group.networks.values()
    assert of_student.backbone.bn1.running_mean.tolist() == [7.0] * 4
    assert of_teacher.backbone.bn1.running_mean.abs().min() > 0  # untrained: those of random images


def teacher_of_config(tmp_path):
    Config(dict(model=recasting())).dump(tmp_path / 'config.py')
    return networks_of(tmp_path / 'config.py').teacher


def test_everything_is_told_and_written(run, sources, tmp_path):
    out = tmp_path / 'latency.json'
    options = ['--batch-sizes', 1, 2, '--repeats', 2, 1, '--warmup', 0, '--threads', 1, '--fuse-bn', '--json', out]
    status, text, error = run(*sources, *options)
    assert status == 0, error
    assert 'float32 on cpu, BN folded; medians' in text and 'threads 1' in text
    assert 'the same network as all: kd\n' in text
    rows = [line.split() for line in text.splitlines()]
    cells = {tuple(row[:2]): row for row in rows if row[:1] in (['1'], ['2'])}
    assert cells['2', 'teacher8'][-4:] == ['1.00x', '7', 'of', '7']  # the stem's, and two in each of three blocks
    assert cells['1', 'all'][-3:] == ['4', 'of', '4']
    got = json.loads(out.read_text())
    assert got['command'].endswith(f'--json {out}') and got['settings']['fuse_bn'] and got['warmup'] == 0
    assert got['conditions']['torch'] == torch.__version__ and got['conditions']['threads'] == 1
    one, other = got['groups']
    assert (one['teacher'], one['input_shape'], one['same']) == (
        'teacher8', list(SHAPE), dict(teacher8=['ResNet-8'], all=['kd'])
    )  # fmt: skip
    assert list(one['latency']) == ['1', '2'] and list(other['latency']['2']) == ['ResNet-14', 'deep']
    figures = one['latency']['1']['all']
    assert (figures['repeats'], figures['batch_size'], figures['bn_folded'], figures['bn_layers']) == (2, 1, 4, 4)
    assert one['latency']['2']['teacher8']['ratio'] == 1 and one['latency']['2']['teacher8']['repeats'] == 1
    assert one['blocks'] == []


def test_blocks_of_teacher_and_student(run, sources, tmp_path):
    out = tmp_path / 'latency.json'
    status, text, error = run(*sources[1:3], *QUICK, '--blocks', '--json', out)
    assert status == 0, error
    assert 'blocks of ResNet-8 and all at batch 2' in text
    first, second = json.loads(out.read_text())['groups'][0]['blocks']
    assert (first['networks'], first['batch_size']) == (['ResNet-8', 'all'], 2)
    blocks = CHAIN[::2]
    assert [row['part'] for row in first['parts']] == [
        'stem', *blocks, 'between blocks', 'head', 'whole pass', 'whole pass'
    ]  # fmt: skip
    assert [row['what'] for row in first['parts']][1:4] == ['basic → ConvBlock'] * 3
    assert [row['what'] for row in second['parts']][1:4] == ['basic → ConvBlock', 'basic', 'basic']
    for side in (0, 1):  # one round: the parts are those of one pass
        *parts, marked, _ = (row['ms'][side] for row in first['parts'])
        assert sum(parts) == pytest.approx(marked) and min(parts) > 0


@pytest.fixture
def narrowed(write, tmp_path):
    """Sources of one full network: an adjoined config, its small network for a distiller, another width, two files."""
    full = classifier(shortcut='B')
    student = dict(type='NarrowStudent', source=full, alpha=2, above=4, input_shape=SHAPE)
    adjoined = dict(type='AdjoinedNetwork', network=full, alpha=2, above=4, data_preprocessor=_images())
    network, constructor = build_source(full)
    save_student(str(tmp_path / 'full.pth'), network, Origin(constructor), dict(input_shape=SHAPE))
    widths = narrow_by(network, SHAPE, alpha=2, above=4)
    save_student(str(tmp_path / 'small.pth'), network, Origin(constructor, None, widths))
    return [
        write(adjoined, 'adjoined.py'),
        write(dict(type='SingleTeacherDistill', student=student), 'alone.py'),
        write(dict(type='SingleTeacherDistill', student=student | dict(above=6)), 'wider.py'),
        str(tmp_path / 'small.pth'),
        str(tmp_path / 'full.pth'),
    ]


def test_narrowed_networks_are_told_apart_by_their_widths(tool, narrowed):
    (group,) = tool.grouped(narrowed, None)
    assert list(group.networks) == ['ResNet-8', 'adjoined', 'wider'] and group.narrowed == ['adjoined', 'wider']
    assert group.same == {'adjoined': ['alone', 'small'], 'ResNet-8': ['full']}
    fcs = [network.head.fc.in_features for network in group.networks.values()]
    convs = [network.backbone.layer2[0].conv1.out_channels for network in group.networks.values()]
    assert (fcs, convs) == ([8, 4, 4], [6, 3, 6])


def test_blocks_of_full_and_narrowed_networks(run, narrowed, tmp_path):
    out = tmp_path / 'latency.json'
    status, text, error = run(narrowed[0], narrowed[2], *QUICK, '--blocks', '--json', out)
    assert status == 0, error
    blocks = json.loads(out.read_text())['groups'][0]['blocks']
    assert [found['networks'] for found in blocks] == [['ResNet-8', 'adjoined'], ['ResNet-8', 'wider']]
    assert [(row['part'], row['what']) for row in blocks[0]['parts']][1:4] == [(path, 'basic') for path in CHAIN[::2]]


def test_blocks_of_a_network_alone(run, tmp_path):
    out = tmp_path / 'latency.json'
    shape = ['--shape', 3, 32, 32]
    status, text, error = run('torchvision:resnet18', *QUICK, *shape, '--blocks', '--json', out)
    assert status == 0, error
    parts = json.loads(out.read_text())['groups'][0]['blocks'][0]['parts']
    assert [(row['part'], row['what']) for row in parts[1:3]] == [('layer1.0', 'basic'), ('layer1.1', 'basic')]
    assert 'saved' not in text and 'resnet18 on 3×32×32' in text


def part(ms):
    return Part(ms, ms - 1, ms + 1)


def test_rows_of_blocks(tool, write):
    found = networks_of(write(recasting(), 'run.py'))
    times = [
        BlockLatency(part(s), {p: part(s * (i + 2)) for i, p in enumerate(CHAIN[::2])},
                     {p: part(s * 10) for p in CHAIN[:3:2]}, part(s * 7), part(s * 100), part(s * 90))
        for s in (4.0, 1.0)
    ]  # fmt: skip
    rows = tool.block_rows(times, found.plan.entries)
    assert [(row['part'], row['ms']) for row in rows] == [
        ('stem', [4, 1]), (CHAIN[0], [8, 2]), (CHAIN[2], [12, 3]), (CHAIN[4], [16, 4]), ('between blocks', [80, 20]),
        ('head', [28, 7]), ('whole pass', [400, 100]), ('whole pass', [360, 90]),
    ]  # fmt: skip
    assert (rows[1]['p10_ms'], rows[1]['p90_ms']) == ([7, 1], [9, 3])
    lines = [line.split() for line in tool.block_table(rows).splitlines()]
    assert [CHAIN[0], 'basic', '→', 'ConvBlock', '8.00', '2.00', '6.00', '4.00x'] in lines
    assert lines[-1] == 'whole pass without marks: 360 → 90.0 ms'.split()
    slower = tool.block_rows(times[::-1], found.plan.entries)
    assert ['stem', '1.00', '4.00', '−3.00', '0.25x'] in [
        line.split() for line in tool.block_table(slower).splitlines()
    ]


def test_glue_has_a_row_of_its_own(tool, tmp_path):
    config = dict(
        type='Recasting', teacher=dict(type='TorchvisionClassifier', name='vgg11'), data_preprocessor=dict(
            type='BatchPreprocessor', input_shape=(3, 32, 32)),
        recipe=[dict(source='features.0', target=dict(type='ConvBlock', width_ratio=0.5))],
    )  # fmt: skip
    Config(dict(model=config)).dump(tmp_path / 'vgg.py')
    entries = networks_of(tmp_path / 'vgg.py').plan.entries
    paths = [entry.path for entry in entries]
    once = BlockLatency(part(2.0), {p: part(3.0) for p in paths}, {p: part(5.0) for p in paths[:-1]}, *[part(1.0)] * 3)
    rows = {row['part']: row for row in tool.block_rows([once], entries)}
    assert rows['behind features.0']['ms'] == [5.0] and 'behind features.3' in rows
    # torchvision's VGG-11 has eight convolutions and pools behind 1, 2, 4, 6 (and 8: the head)
    assert rows['between blocks']['ms'] == [15.0]


def test_subnormal_activations_are_told(run, write, monkeypatch, tool):
    monkeypatch.setattr(tool, 'subnormal_activations', lambda network, shape: 12)
    status, text, _ = run(write(recasting(), 'run.py'), *QUICK)
    assert status == 0 and 'run: 12 activations are subnormal numbers, which slow a CPU' in text


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['no/such.py'], 'error: there is no config file no/such.py\n'),
        (['torchvision:resnet5'], "error: torchvision has no classifier 'resnet5' (nearest: "),
        (['torchvision:resnet18', '--device', 'gpu'], "error: device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'\n"),
        (['torchvision:resnet18', '--dtype', 'half'], 'error: dtype must be one of float32, bfloat16, float16, got'),
        (['torchvision:resnet18', '--threads', '0'], 'error: threads must be at least 1, got 0\n'),
        (['torchvision:resnet18', '--batch-sizes', '1', '0'], 'error: batch_size must be at least 1, got 0\n'),
        (['torchvision:resnet18', '--repeats', '0'], 'error: repeats must be at least 1, got 0\n'),
        (['torchvision:resnet18', '--warmup', '-1'], 'error: warmup must be at least 0, got -1\n'),
        (['torchvision:resnet18', '--repeats', '1', '2', '3'], 'error: 3 --repeats for 2 --batch-sizes: give one'),
        (['torchvision:resnet18', '--compile', '--blocks'], 'error: --blocks and --compile exclude each other: '),
        (['torchvision:resnet18', '--json', 'no/such/o.json'], 'error: --json no/such/o.json is no file in a folder'),
        (['torchvision:resnet18', '--shape', '3', '0', '9'], 'error: an input shape is three numbers (C, H, W)'),
        (['torchvision:squeezenet1_0', '--blocks', '--shape', '3', '64', '64'], 'error: squeezenet1_0 has no bl'),
        (['torchvision:resnet18', '--shape', '1', '9', '9'], 'error: ResNet does not take an input of (1, 9, 9)'),
    ],
)  # fmt: skip
def test_mistakes(run, args, message):
    status, _, error = run(*args)
    assert status == 2 and error.splitlines()[-1].startswith(message.rstrip('\n')), error
    assert 'Traceback' not in error


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_device_that_is_not_there(write):
    """As a command: one line, and no network is built."""
    command = [sys.executable, str(TOOL), write(recasting(), 'run.py'), '--device', 'cuda']
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == "error: device 'cuda' was asked for, but PyTorch sees no GPU here; use cpu\n"
