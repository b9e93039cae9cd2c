import pytest
import torch
from torch import nn

from mmrecast.analysis import latency
from mmrecast.analysis.latency import compare_latency


class Clock:
    """Stands in for the time module: every network advances it by its own cost."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Costs(nn.Module):
    def __init__(self, clock, seconds, calls):
        super().__init__()
        self.clock, self.seconds, self.calls, self.done = clock, seconds, calls, 0

    def forward(self, x):
        assert torch.is_inference_mode_enabled()
        assert not self.training
        self.calls.append(self)
        self.clock.now += self.seconds[self.done % len(self.seconds)]
        self.done += 1
        return x


@pytest.fixture(autouse=True)
def interruptions(monkeypatch):
    """The interruptions of this process, as the tests want them: none, unless they are set."""
    counts = []
    monkeypatch.setattr(latency, '_interruptions', lambda: counts.pop(0) if counts else 0)
    return counts


def test_ratio_is_the_median_of_paired_rounds(monkeypatch):
    clock, calls = Clock(), []
    monkeypatch.setattr(latency, 'time', clock)
    slow, fast = Costs(clock, [0.1, 0.2, 0.9], calls), Costs(clock, [0.05, 0.05, 0.3], calls)
    slow.train()
    got = compare_latency(dict(slow=slow, fast=fast), (1, 2, 2), batch_size=4, repeats=3, warmup=0)
    assert [got['slow'].median_ms, got['fast'].median_ms] == pytest.approx([200, 50])
    assert got['slow'].ratio == 1
    assert got['fast'].ratio == pytest.approx(3)  # of 2, 4, 3; the ratio of the medians would be 4
    assert got['fast'].ms_per_image == pytest.approx(12.5)
    assert got['slow'].p10_ms == pytest.approx(120)  # 100 + 0.2 * (200 - 100)
    assert got['slow'].p90_ms == pytest.approx(760)  # 200 + 0.8 * (900 - 200)
    assert calls == [slow, fast, fast, slow, slow, fast]
    assert slow.training


def test_warmup_is_not_measured(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, 'time', clock)
    net = Costs(clock, [9.0, 9.0, 0.1], [])
    got = compare_latency(dict(net=net), (1, 2, 2), repeats=1, warmup=2)['net']
    assert got.median_ms == got.p10_ms == got.p90_ms == pytest.approx(100)


def test_interrupted_passes_are_repeated(monkeypatch, interruptions):
    clock, calls = Clock(), []
    monkeypatch.setattr(latency, 'time', clock)
    net = Costs(clock, [0.07, 0.02, 0.01, 0.02, 0.04, 0.03, 0.06, 0.9], calls)
    interruptions += [0, 2, 2, 3, 3, 3]  # the first two passes of the first round
    interruptions += [3, 3]
    interruptions += [3, 4, 4, 5, 5, 6]  # all of the third, until a tenth of a second has passed: the shortest counts
    got = compare_latency(dict(net=net), (1, 2, 2), repeats=3, warmup=0)['net']
    assert len(calls) == 7
    assert got.median_ms == pytest.approx(20)  # of 10, 20 and 30


def test_threads_are_restored():
    before = torch.get_num_threads()
    got = compare_latency(dict(a=nn.Conv2d(1, 1, 1)), (1, 4, 4), repeats=2, warmup=0, threads=1)
    assert (got['a'].threads, torch.get_num_threads()) == (1, before)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(networks={}), 'at least one network'),
        (dict(repeats=0), 'repeats must be at least 1, got 0'),
        (dict(warmup=-1), 'warmup must be at least 0, got -1'),
        (dict(batch_size=0), 'batch_size must be at least 1, got 0'),
        (dict(threads=0), 'threads must be at least 1, got 0'),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare_latency(**{'networks': dict(a=nn.Identity()), 'input_shape': (1, 2, 2), **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_missing_gpu():
    with pytest.raises(ValueError, match="device 'cuda' was asked for, but PyTorch sees no GPU"):
        compare_latency(dict(a=nn.Identity()), (1, 2, 2), device='cuda')
