"""The profile of a step: every operator in one group, all of them and the rest the whole time."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
TOOL = FOLDER / 'profile_step.py'
CONFIG = Path(__file__).parents[2] / 'configs/distill/recasting/recasting_resnet56_convnet_digits.py'


@pytest.fixture(scope='module')
def tool(loaded):
    return loaded


@pytest.fixture
def run(call, tool, monkeypatch, quick):
    """Run the tool in this process on the digits: (exit status, output, error)."""
    monkeypatch.setattr(tool, 'keep_memory', lambda: True)  # it would stay so for other tests
    return lambda *args: call(CONFIG, '--batch-size', 4, *args)


def test_a_stage_is_profiled(run, tool, tmp_path):
    out = tmp_path / 'profile.json'
    status, printed, _ = run('--stage', 2, '--steps', 2, '--out', out)
    assert status == 0
    content = json.loads(out.read_text())
    groups = content['groups']
    assert set(groups) == set(tool.GROUPS) and (content['stage'], content['block']) == (2, 'backbone.layer1.1')
    assert sum(one['ms'] for one in groups.values()) == pytest.approx(content['profiled_ms'], rel=1e-3)
    assert sum(one['share'] for one in groups.values()) == pytest.approx(1, abs=1e-3)
    for name in ('convolution forward', 'convolution backward', 'batch norm forward', 'data', 'optimiser', 'loss'):
        assert groups[name]['ms'] > 0, name
    assert set(content['reads']) <= {'optimiser'}  # nothing else waits
    assert 'convolution backward' in printed and 'values read in a step' in printed


def event(*names):
    """Return an operator, called by the others of these names."""
    parent = event(*names[1:]) if len(names) > 1 else None
    return SimpleNamespace(name=names[0], cpu_parent=parent, self_cpu_time_total=500.0, self_device_time_total=0.0)


@pytest.mark.parametrize(
    ('names', 'group'),
    [
        (['aten::mkldnn_convolution', 'aten::_convolution', 'aten::conv2d'], 'convolution forward'),
        (['aten::empty', 'aten::mkldnn_convolution'], 'sums, pooling, linear, copies'),
        (['aten::convolution_backward', 'ConvolutionBackward0'], 'convolution backward'),
        (['autograd::engine::evaluate_function: ConvolutionBackward0'], 'convolution backward'),
        (['aten::native_batch_norm'], 'batch norm forward'),
        (['aten::native_batch_norm_backward', 'NativeBatchNormBackward0'], 'batch norm backward'),
        (['aten::threshold_backward', 'ReluBackward0'], 'ReLU'),
        (['aten::gather', 'data'], 'data'),
        (['aten::_fused_adam_', 'Optimizer.step#Adam.step'], 'optimiser'),
        (['aten::_local_scalar_dense', 'aten::item'], 'other operators'),
    ],
)
def test_groups(tool, names, group):
    assert tool.group_of(event(*names)) == group


def test_what_no_operator_accounts_for_is_the_rest(tool):
    sums = tool.grouped([event('aten::relu'), event('aten::relu'), event('data')], 10.0)
    assert (sums['ReLU'], sums['data'], sums['python and hooks'], sum(sums.values())) == (1.0, 0.5, 8.5, 10.0)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--stage', 28], 'stages 28 are given, but there are those from 1 to 27'),
        (['--steps', 0], 'steps must be at least 1, got 0'),
        (['--out', 'no/such/folder/profile.json'], 'is no file in a folder that is there'),
    ],
)
def test_mistakes_are_told_in_one_line(run, arguments, message):
    status, _, error = run(*arguments)
    assert status == 2 and re.match(f'error: .*{message}', error.splitlines()[-1])
