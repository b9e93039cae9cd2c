import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny import SHAPE, classifier, preprocessor

from mmrecast.algorithms.width_cost import build_cost
from mmrecast.models import build_network
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.student_file import Origin, save_student

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'measure_width_latency.py'
QUICK = ['--repeats', 1, '--warmup', 0, '--threads', 1]
GROUPS = ['backbone.layer2.0.conv1', 'backbone.layer2.0.conv2', 'backbone.layer3.0.conv1', 'backbone.layer3.0.conv2']


@pytest.fixture
def run(call):
    """Run the tool in this process: (exit status, output, error)."""
    return call


@pytest.fixture
def write(tmp_path):
    """Write a config of a small ResNet whose wider half narrows, return its path."""

    def write_config(**model):
        network = classifier(widths=(4, 8, 16), shortcut='B')
        model = dict(network=network, above=4, rule='basic', data_preprocessor=preprocessor()) | model
        Config(dict(model=model)).dump(tmp_path / 'config.py')
        return str(tmp_path / 'config.py')

    return write_config


def test_a_search_gets_its_table(run, write, tmp_path):
    out = tmp_path / 'table.json'
    source = write(type='DifferentiableAdjoinedNetwork', divisors=(2, 4))
    status, text, error = run(source, *QUICK, '--batch-size', 2, '--out', out)
    assert status == 0, error
    assert 'config on 1×8×8, batch 2: 4 width groups narrow\n' in text and 'threads 1' in text
    assert [line.split()[0] for line in text.splitlines() if line.endswith('x')] == ['1', '2', '4']
    assert ' left out of the sum: BatchNorm, ' in text and text.endswith(f'different layers, in {out}\n')
    table = json.loads(out.read_text())
    assert table['divisors'] == dict.fromkeys(GROUPS, [1, 2, 4])  # the full width is measured in any case
    assert (table['network'], table['input_shape'], table['batch_size']) == ('config', list(SHAPE), 2)
    assert table['conditions']['torch'] == torch.__version__ and table['command'].endswith(f'--out {out}')
    graph = trace_channels(build_network(classifier(widths=(4, 8, 16), shortcut='B')).eval(), SHAPE)
    cost = build_cost(dict(type='latency', table=str(out)), graph, dict.fromkeys(GROUPS, (2, 4)))
    for one in table['whole']:
        chosen = {} if one['divisor'] == 1 else dict.fromkeys(GROUPS, one['divisor'])
        assert cost.exact(chosen) == pytest.approx(one['layers_ms'], rel=1e-9)


@pytest.mark.parametrize(
    ('model', 'options', 'expected'),
    [
        (dict(alpha=4), [], dict.fromkeys(GROUPS, [1, 4])),
        (dict(alpha=4), ['--divisors', 2], dict.fromkeys(GROUPS, [1, 2])),
        (dict(alpha=4, exclude=['backbone.layer3']), [], dict.fromkeys(GROUPS[:2], [1, 4])),
        (dict(alpha={'backbone.layer1': 2}), [], {'backbone.conv1': [1, 2], 'backbone.layer1.0.conv1': [1, 2]}),
        (dict(above=8), [], dict.fromkeys(GROUPS[2:], [1, 2, 4])),
    ],
)
def test_what_narrows_is_the_configs(model, options, expected, run, write, tmp_path):
    status, _, error = run(write(type='AdjoinedNetwork', **model), *QUICK, *options, '--out', tmp_path / 'table.json')
    assert status == 0, error
    assert json.loads((tmp_path / 'table.json').read_text())['divisors'] == expected


def test_a_name(run, tmp_path):
    out = tmp_path / 'table.json'
    shape = ['--shape', 3, 32, 32]
    status, text, error = run('torchvision:resnet18', *QUICK, *shape, '--divisors', 8, '--out', out)
    assert status == 0, error
    assert 'resnet18 on 3×32×32, batch 1: 9 width groups narrow' in text
    table = json.loads(out.read_text())
    assert set(map(tuple, table['divisors'].values())) == {(1, 8)} and table['network'] == 'resnet18'
    assert len(table['layers']['layer2.0.conv2']['milliseconds']) == 2


def test_a_student_file_is_a_network_too(run, write, tmp_path):
    config = classifier(widths=(4, 8, 16), shortcut='B')
    save_student(str(tmp_path / 'student.pth'), build_network(config), Origin(config))
    out = tmp_path / 'table.json'
    source = write(type='AdjoinedNetwork', alpha=2, network=str(tmp_path / 'student.pth'))
    status, _, error = run(source, *QUICK, '--out', out)
    assert status == 0, error
    assert json.loads(out.read_text())['divisors'] == dict.fromkeys(GROUPS, [1, 2])


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['no/such.py'], 'error: there is no config file no/such.py\n'),
        (['torchvision:resnet5'], "error: torchvision has no classifier 'resnet5' (nearest: "),
        (['torchvision:resnet18', '--divisors', 3], 'error: divisor=3 does not divide the 128 channels of'),
        (['torchvision:resnet18', '--divisors', 0], 'error: divisor must be a whole number of at least 1, got 0'),
        (['torchvision:resnet18', '--batch-size', 0], 'error: batch_size must be at least 1, got 0\n'),
        (['torchvision:resnet18', '--repeats', 0], 'error: repeats must be at least 1, got 0\n'),
        (['torchvision:resnet18', '--device', 'gpu'], "error: device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'\n"),
        (['torchvision:resnet18', '--shape', 1, 9, 9], 'error: ResNet cannot be run on input shape (1, 9, 9): '),
        (['torchvision:resnet18', '--out', 'no/such/t.json'], 'error: --out no/such/t.json is no file in a folder'),
        (['torchvision:vit_b_32'], 'error: no layer to adjoin: '),
    ],
)  # fmt: skip
def test_mistakes(args, message, run, tmp_path):
    status, _, error = run('--out', tmp_path / 'table.json', *args)
    assert status == 2 and error.splitlines()[-1].startswith(message.rstrip('\n')), error
    assert 'Traceback' not in error and not (tmp_path / 'table.json').exists()


def test_a_config_without_a_network(run, tmp_path):
    Config(dict(model=dict(type='Recasting', teacher=classifier()))).dump(tmp_path / 'recasting.py')
    status, _, error = run(tmp_path / 'recasting.py', '--out', tmp_path / 'table.json')
    assert status == 2
    assert 'recasting.py has no model with network=… (AdjoinedNetwork); a plain network is given by name' in error
