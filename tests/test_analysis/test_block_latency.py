from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmrecast.analysis import block_latency, latency
from mmrecast.analysis.block_latency import compare_blocks
from mmrecast.analysis.latency import Bench
from mmrecast.analysis.latency_settings import LatencySettings


class Clock:
    """Stands in for the time module: layers advance it."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


CLOCK = Clock()  # shared with copies


class Costs(nn.Module):
    def __init__(self, *milliseconds):
        super().__init__()
        self.milliseconds, self.done = milliseconds, 0

    def forward(self, x):
        CLOCK.now += self.milliseconds[self.done % len(self.milliseconds)] / 1000
        self.done += 1
        return x


def chain(**layers):
    net = nn.Sequential()
    for name, costs in layers.items():
        net.add_module(name, Costs(*costs) if isinstance(costs, tuple) else costs)
    return net


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(block_latency, 'time', CLOCK)
    monkeypatch.setattr(latency, 'time', CLOCK)
    monkeypatch.setattr(latency, '_interruptions', lambda: 0)


def test_every_part_has_its_own_time():
    net = chain(stem=(1,), a=(2,), glue=(4,), b=(8,), head=(16,))
    got = compare_blocks(dict(net=net), [('a', 'a'), ('b', 'b')], (1, 2, 2), repeats=3, warmup=1)['net']
    assert [got.stem.median_ms, got.head.median_ms] == pytest.approx([1, 16])
    assert {path: part.median_ms for path, part in got.blocks.items()} == pytest.approx(dict(a=2, b=8))
    assert {path: part.median_ms for path, part in got.gaps.items()} == pytest.approx(dict(a=4))
    assert got.total.median_ms == got.unmarked.median_ms == pytest.approx(31)


def test_a_span_ends_with_its_last_module():
    net = chain(conv=(1,), bn=(2,), relu=(4,), pool=(8,), conv2=(16,), relu2=(32,), head=(64,))
    got = compare_blocks(dict(net=net), [('conv', 'relu'), ('conv2', 'relu2')], (1, 2, 2), repeats=2, warmup=0)['net']
    assert {path: part.median_ms for path, part in got.blocks.items()} == pytest.approx(dict(conv=7, conv2=48))
    assert got.gaps['conv'].median_ms == pytest.approx(8)
    assert [got.stem.median_ms, got.head.median_ms] == pytest.approx([0, 64])


def test_medians_and_deciles_are_over_the_marked_rounds():
    # Passes, by hand: a trial, a check, then per round with and without marks, the order turning.
    net = chain(a=(0, 0, 1, 100, 100, 2, 4, 100))
    got = compare_blocks(dict(net=net), [('a', 'a')], (1, 2, 2), repeats=3, warmup=0)['net']
    part = got.blocks['a']
    assert (part.median_ms, part.p10_ms, part.p90_ms) == pytest.approx((2, 1.2, 3.6))
    assert got.unmarked.median_ms == pytest.approx(100)


def test_networks_take_turns():
    one, other = chain(a=(5,)), chain(a=(3,))
    got = compare_blocks(dict(one=one, other=other), [('a', 'a')], (1, 2, 2), repeats=2, warmup=1)
    assert [got[name].blocks['a'].median_ms for name in ('one', 'other')] == pytest.approx([5, 3])
    assert one.a.done == other.a.done == 2 + 3 * 2


def test_folded_bn_keeps_its_place():
    bn = nn.BatchNorm2d(1)
    net = chain(conv=nn.Conv2d(1, 1, 1), bn=bn, head=nn.Flatten())
    settings = LatencySettings(fuse_bn=True)
    got = compare_blocks(dict(net=net), [('conv', 'bn')], (1, 2, 2), repeats=1, warmup=0, settings=settings)['net']
    assert list(got.blocks) == ['conv'] and net.bn is bn


class Event:
    """Stands in for a CUDA event: it takes the time of the stream it is recorded on."""

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream):
        assert stream == 'stream of cuda:1'
        self.now = CLOCK.now

    def elapsed_time(self, after):
        return (after.now - self.now) * 1000


def test_marks_on_a_gpu_are_events(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: f'stream of {device}')
    images = SimpleNamespace(is_cuda=True, device='cuda:1')
    networks = dict(net=chain(stem=(1,), a=(2,), glue=(4,), b=(8,), head=(16,)))
    ready = Bench(networks, images, lambda: waited.append(CLOCK.now), threads=1, foldings={})
    start = CLOCK.now
    parts = block_latency._MarkedPass('net', ready, [('a', 'a'), ('b', 'b')])()
    assert parts == pytest.approx([1, 2, 4, 8, 16])
    assert waited == pytest.approx([start, start + 0.031])  # before the first mark and before the times are read


def test_hooks_are_gone():
    net = chain(a=(1,), b=(1,))
    compare_blocks(dict(net=net), [('a', 'a'), ('b', 'b')], (1, 2, 2), repeats=1, warmup=0)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    ('spans', 'options', 'message'),
    [
        ([], {}, 'at least one block, got none'),
        ([('a', 'a')], dict(repeats=0), 'repeats must be at least 1, got 0'),
        ([('a', 'a')], dict(batch_size=0), 'batch_size must be at least 1, got 0'),
        ([('a', 'a')], dict(settings=LatencySettings(compile=True)), 'a compiled network calls no modules'),
        (
            [('b', 'b'), ('a', 'a')],
            {},
            "not called once each, in order: the beginning of 'a' where the beginning of 'b'",
        ),
        ([('a', 'a'), ('twice', 'twice')], {}, "in order: the beginning of 'twice' where nothing more should come"),
        ([('a', 'a'), ('never', 'never')], {}, "in order: nothing more where the beginning of 'never' should come"),
        ([('a', 'b'), ('b', 'b')], {}, "in order: the beginning of 'b' where the end of 'a' should come"),
    ],
)
def test_mistakes(spans, options, message):
    net = chain(a=(1,), b=(1,), twice=(1,))
    net.add_module('again', net.twice)
    net.add_module('dead', nn.Identity())
    net.dead.register_module('never', nn.Identity())
    spans = [tuple(path.replace('never', 'dead.never') for path in span) for span in spans]
    with pytest.raises(ValueError, match=message.replace('never', 'dead.never')):
        compare_blocks(dict(net=net), spans, (1, 2, 2), **options)


def test_a_block_that_is_not_there():
    with pytest.raises(KeyError, match=r"Sequential has no module 'c' \(nearest: a"):
        compare_blocks(dict(net=chain(a=(1,))), [('c', 'c')], (1, 2, 2))


def test_parts_of_a_real_network_add_up(monkeypatch):
    monkeypatch.undo()
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten())
    got = compare_blocks(dict(net=net), [('0', '1'), ('2', '2')], (3, 8, 8), repeats=1, warmup=1)['net']
    parts = [got.stem, *got.blocks.values(), *got.gaps.values(), got.head]
    assert all(part.median_ms > 0 for part in parts)
    assert sum(part.median_ms for part in parts) == pytest.approx(got.total.median_ms)
    assert not torch.is_inference_mode_enabled()
