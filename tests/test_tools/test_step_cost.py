"""What the benchmark of a training step compares: the same losses and weights, by hand, by links and by MMRazor."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
TOOL = FOLDER / 'step_cost.py'
PAIR = 'resnet14_resnet8_digits'
METHODS = ['kd', 'factor_transfer', 'factor_transfer_pretrain', 'fitnets', 'fitnets_pretrain']


@pytest.fixture(scope='module')
def tool(loaded):
    return loaded


@pytest.fixture
def run(call, tool, monkeypatch, quick):
    """Run the tool in this process on the digits' pair: (exit status, output, error)."""
    monkeypatch.setattr(tool, 'keep_memory', lambda: True)  # it would stay so for other tests
    return lambda *args: call('--pair', PAIR, *args)


def vector(optimizer):
    return torch.cat([p.detach().flatten().clone() for group in optimizer.param_groups for p in group['params']])


@pytest.mark.parametrize('method', METHODS)
def test_the_hand_written_loop_gives_the_same_losses_and_weights(tool, quick, monkeypatch, method):
    seen = []
    check = tool.Turns._check

    def looked_at(turns, optimizer, losses):
        check(turns, optimizer, losses)
        own, other = (vector(o) for o in (optimizer, turns.others['handwritten'].optimizer))
        seen.append((losses['mmrecast'], losses['handwritten'], own, other))

    monkeypatch.setattr(tool.Turns, '_check', looked_at)
    cost = tool.measure(method, PAIR, batch_size=8, rounds=1, with_mmrazor=False)
    assert len(seen) == tool.CHECKED
    for ours, theirs, own, other in seen:
        assert theirs == pytest.approx(ours, rel=1e-5)
        torch.testing.assert_close(other, own, rtol=1e-4, atol=1e-5)
    assert (seen[-1][2] - seen[0][2]).abs().max() > 1e-3  # they train
    assert cost.difference['handwritten'][0] < 1e-5
    assert cost.rounds == 1 and set(cost.ms) == {'mmrecast', 'handwritten'}


def test_a_loop_that_computes_something_else_is_refused(tool, quick, monkeypatch):
    def warmer(self, x, y):
        return 1.01 * right(self, x, y)

    right = tool.KD.loss
    monkeypatch.setattr(tool.KD, 'loss', warmer)
    with pytest.raises(ValueError, match='step 1 of the handwritten loop: loss .* they do not compute the same'):
        tool.measure('kd', PAIR, batch_size=8, rounds=1, with_mmrazor=False)


def test_a_loop_that_trains_something_else_is_refused(tool, quick, monkeypatch):
    def build(self, connectors):
        return [self.student.backbone]

    monkeypatch.setattr(tool.KD, 'build', build)
    with pytest.raises(ValueError, match=r'the handwritten loop trains \d+ parameters, mmrecast \d+'):
        tool.measure('kd', PAIR, batch_size=8, rounds=1, with_mmrazor=False)


def test_ratios_are_medians_over_rounds_that_begin_in_turn(tool, quick, monkeypatch):
    warmup = [1.0] * 2 * tool.CHECKED
    steps = [0.3, 0.2, 0.1, 0.1, 0.4, 0.5]  # by hand and ours, ours and by hand, by hand and ours: 1.5, 1.0, 0.8
    readings = [reading for seconds in warmup + steps for reading in (10.0, 10.0 + seconds)]
    clocks = (iter(readings), iter(readings))
    wall, cpu = (lambda: next(clocks[0])), (lambda: next(clocks[1]))
    monkeypatch.setattr(sys.modules['step_turns'], 'time', SimpleNamespace(perf_counter=wall, process_time=cpu))
    cost = tool.measure('factor_transfer_pretrain', PAIR, batch_size=4, rounds=3, with_mmrazor=False)
    assert cost.ms == dict(mmrecast=200.0, handwritten=300.0)
    assert cost.ratio == cost.cpu_ratio == dict(handwritten=[1.0, 0.84, 1.4])


def test_the_command_line_writes_what_it_prints(run, tmp_path):
    out = tmp_path / 'cost.json'
    status, printed, _ = run('--methods', 'fitnets_pretrain', '--batch-sizes', 4, '--rounds', 2, '--out', out)
    assert status == 0
    content = json.loads(out.read_text())
    (cost,) = content['costs']
    assert (content['pair'], cost['method'], cost['batch_size'], cost['rounds']) == (PAIR, 'fitnets_pretrain', 4, 2)
    assert 'step_cost.py --pair' in content['command'] and content['versions']['mmrazor'] is None
    row = printed.splitlines()[-1].split()
    assert row[:2] == ['fitnets_pretrain', '4'] and f'{cost["ratio"]["handwritten"][0]:.3f}' in row


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--pair', 'resnet14_resnet8_digit'], f'kd has no config for the pair.*nearest: {PAIR}'),
        (['--rounds', '0'], 'rounds must be at least 1, got 0'),
        (['--batch-sizes', '8', '0'], 'batch_size must be at least 1, got 0'),
        (['--out', 'no/such/folder/cost.json'], 'is no file in a folder that is there'),
    ],
)
def test_mistakes_are_told_in_one_line(run, arguments, message):
    status, _, error = run('--methods', 'kd', *arguments)
    line = error.splitlines()[-1]
    assert status == 2 and re.match(f'error: .*{message}', line)


def test_without_mmrazor_it_says_so_and_goes_on(run, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmrazor', None)
    options = ('--methods', 'factor_transfer_pretrain', '--batch-sizes', 4, '--rounds', 1)
    status, printed, error = run(*options, '--with-mmrazor')
    assert status == 0 and 'mmrazor, ms' not in printed
    assert (
        sum(line.startswith('mmrazor cannot be imported, so it is not measured: ') for line in error.splitlines()) == 1
    )


def test_malloc_is_asked_to_keep_memory_where_it_can_be(tool, monkeypatch):
    asked = []
    glibc = SimpleNamespace(mallopt=lambda name, value: asked.append((name, value)) or 1)
    monkeypatch.setattr(sys.modules['conditions'].ctypes, 'CDLL', lambda name: glibc)
    assert tool.keep_memory() is True and asked == [(-1, 2**31 - 1), (-4, 0)]
    monkeypatch.setattr(sys.modules['conditions'].ctypes, 'CDLL', lambda name: SimpleNamespace())
    assert tool.keep_memory() is False


@pytest.mark.parametrize('method', METHODS)
def test_mmrazor_gives_the_same_losses_and_weights(tool, quick, method):
    pytest.importorskip('mmrazor.models', reason='MMRazor is not installed')
    cost = tool.measure(method, PAIR, batch_size=8, rounds=1, with_mmrazor=True)
    assert max(cost.difference['mmrazor']) < 1e-4
