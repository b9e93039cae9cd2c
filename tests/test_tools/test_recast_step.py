"""What the benchmark of recasting stages compares: losses, weights, FLOPs, and what is kept for the backward pass."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
TOOL = FOLDER / 'recast_step.py'
CONFIG = Path(__file__).parents[2] / 'configs/distill/recasting/recasting_resnet56_convnet_digits.py'


@pytest.fixture(scope='module')
def tool(loaded):
    return loaded


@pytest.fixture
def run(call, tool, monkeypatch, quick):
    """Run the tool in this process on the digits: (exit status, output, error)."""
    monkeypatch.setattr(tool, 'keep_memory', lambda: True)  # it would stay so for other tests
    return lambda *args: call(CONFIG, '--batch-size', 4, '--rounds', 1, *args)


@pytest.mark.parametrize('next_block', ['frozen', 'fresh'])
def test_first_and_last_stage(run, tmp_path, next_block):
    """Behind the last block the logits are compared; the loops would be refused if they computed something else."""
    out = tmp_path / 'cost.json'
    status, printed, _ = run('--stages', 27, 1, '--next-block', next_block, '--out', out)
    assert status == 0
    content = json.loads(out.read_text())
    first, last = content['stages']
    assert (first['stage'], first['block'], last['stage'], last['block']) == (
        1, 'backbone.layer1.0', 27, 'backbone.layer3.8'
    )  # fmt: skip
    for cost in (first, last):
        assert set(cost['ms']) == {'mmrecast', 'handwritten', 'hooked', 'whole'}
        assert set(cost['difference']) == {'handwritten', 'hooked'} and cost['difference']['handwritten'][0] < 1e-5
        assert cost['excess'] == pytest.approx(cost['time_share'] / cost['flop_share'] - 1, rel=1e-2)
        assert 0 < cost['data_ms'] and 0 < cost['data_share'] < 1
        assert cost['saved_mb']['mmrecast'] == pytest.approx(cost['saved_mb']['handwritten'], rel=0.01)
    assert first['flop_share'] < 0.1 and last['flop_share'] > 0.9
    assert first['saved_mb']['mmrecast'] < 0.2 * first['saved_mb']['hooked']
    assert content['summary']['hooked_ratio_mean'] == pytest.approx(
        (first['ratio']['hooked'][0] + last['ratio']['hooked'][0]) / 2, abs=1e-3
    )
    assert content['config'] == CONFIG.stem and 'recast_step.py' in content['command']
    assert 'backbone.layer3.8' in printed and 'hooked_ratio_mean' in printed


def test_a_loop_that_computes_something_else_is_refused(tool, run, monkeypatch):
    right = tool.Recasting.loss
    monkeypatch.setattr(tool.Recasting, 'loss', lambda self, x, y: 1.01 * right(self, x, y))
    status, _, error = run('--stages', 1)
    assert status == 2 and 'they do not compute the same' in error


class Net(nn.Module):
    """Three convolutions of 2·3·9, 3·4·9 and 4·5·9 weights on 4x4 pixels, and a classifier."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, i + 1, 3, 1, 1) for i in (2, 3, 4))
        self.fc = nn.Linear(5, 7)

    def forward(self, x):
        return self.fc(self.c(self.b(self.a(x))).mean((2, 3)))


def test_multiplications_of_a_step(tool):
    """By hand: forward twice, then weights that train and inputs behind them."""
    a, b, c, fc = 16 * 54, 16 * 108, 16 * 180, 35
    teacher, student, shape = Net(), Net(), (2, 4, 4)
    assert tool.whole_mults(teacher, student, shape) == 4 * (a + b + c + fc) - a
    student.requires_grad_(False)
    student.a.requires_grad_(True)
    assert tool.step_mults(teacher, student, 'b', shape) == 2 * (a + b) + a + b  # a's weight, b's input
    student.b.requires_grad_(True)
    assert tool.step_mults(teacher, student, 'b', shape) == 2 * (a + b) + a + 2 * b
    student.a.requires_grad_(False)
    assert tool.step_mults(teacher, student, 'c', shape) == 2 * (a + b + c) + b + c
    student.requires_grad_(True)
    assert tool.step_mults(teacher, student, None, shape) == tool.whole_mults(teacher, student, shape)


def test_bytes_that_are_saved(tool):
    """A convolution keeps its input, a ReLU its output, once each; weights do not count, nor does what needs none."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    x = torch.randn(3, 1, 4, 4)
    assert tool.saved_bytes(net, lambda: net(x).sum()) == 4 * (48 + 96)
    net[0].requires_grad_(False)
    assert tool.saved_bytes(net, lambda: net(x).sum()) == 4 * 96  # the last one's input alone


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--stages', 28], 'stages 28 are given, but there are those from 1 to 27'),
        (['--rounds', 0], 'rounds must be at least 1, got 0'),
        (['--out', 'no/such/folder/cost.json'], 'is no file in a folder that is there'),
    ],
)
def test_mistakes_are_told_in_one_line(run, arguments, message):
    status, _, error = run(*arguments)
    assert status == 2 and re.match(f'error: .*{message}', error.splitlines()[-1])


def test_other_networks_are_refused(call, tool, monkeypatch, quick):
    monkeypatch.setattr(tool, 'keep_memory', lambda: True)
    other = CONFIG.with_name('recasting_densenet100_basic_cifar10.py')
    status, _, error = call(other)
    assert (
        status == 2 and 'recasts no CifarResNet of basic blocks, for which alone the step is written by hand' in error
    )
