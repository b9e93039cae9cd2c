import pytest
import torch
from torch import nn

from mmrecast.analysis import latency
from mmrecast.analysis.latency import compare_latency, rounds


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
    slow, fast = Costs(clock, [9.0, 0.1, 0.2, 0.9], calls), Costs(clock, [9.0, 0.05, 0.05, 0.3], calls)  # 9: the trial
    slow.train()
    got = compare_latency(dict(slow=slow, fast=fast), (1, 2, 2), batch_size=4, repeats=3, warmup=0)
    assert [got['slow'].median_ms, got['fast'].median_ms] == pytest.approx([200, 50])
    assert got['slow'].ratio == 1
    assert got['fast'].ratio == pytest.approx(3)  # of 2, 4, 3; the ratio of the medians would be 4
    assert got['fast'].ms_per_image == pytest.approx(12.5)
    assert got['slow'].p10_ms == pytest.approx(120)  # 100 + 0.2 * (200 - 100)
    assert got['slow'].p90_ms == pytest.approx(760)  # 200 + 0.8 * (900 - 200)
    assert calls == [slow, fast] + [slow, fast, fast, slow, slow, fast]
    assert slow.training


def test_warmup_is_not_measured(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, 'time', clock)
    net = Costs(clock, [9.0, 9.0, 9.0, 0.1], [])
    got = compare_latency(dict(net=net), (1, 2, 2), repeats=1, warmup=2)['net']
    assert got.median_ms == got.p10_ms == got.p90_ms == pytest.approx(100)


def test_interrupted_passes_are_repeated(monkeypatch, interruptions):
    clock, calls = Clock(), []
    monkeypatch.setattr(latency, 'time', clock)
    net = Costs(clock, [9.0, 0.07, 0.02, 0.01, 0.02, 0.04, 0.03, 0.06, 0.9], calls)
    interruptions += [0, 2, 2, 3, 3, 3]  # the first two passes of the first round
    interruptions += [3, 3]
    interruptions += [3, 4, 4, 5, 5, 6]  # all of the third, until a tenth of a second has passed: the shortest counts
    got = compare_latency(dict(net=net), (1, 2, 2), repeats=3, warmup=0)['net']
    assert len(calls) == 8
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


class Seen(nn.Module):
    """Notes how it is run; its copies write in the same list."""

    seen = []

    def __init__(self):
        super().__init__()
        self.seen.clear()
        self.conv, self.bn = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        self.seen.append((x.dtype, last, self.conv.weight.dtype, type(self.bn)))
        return self.bn(self.conv(x)).flatten(1)


def test_settings_hold_for_the_networks_and_are_told():
    net = Seen()
    got = compare_latency(dict(net=net), (2, 5, 5), repeats=1, warmup=0, fuse_bn=True, channels_last=True)['net']
    assert (got.bn_folded, got.bn_layers, got.channels_last, got.dtype) == (1, 1, True, 'float32')
    assert net.seen[-2:] == [(torch.float32, True, torch.float32, nn.Identity)] * 2  # the trial and the round
    assert isinstance(net.bn, nn.BatchNorm2d) and not net.conv.weight.is_contiguous(memory_format=torch.channels_last)
    plain = compare_latency(dict(net=net), (2, 5, 5), repeats=1, warmup=0)['net']
    assert (plain.bn_folded, plain.bn_layers, plain.channels_last, plain.compiled) == (None, None, False, False)
    assert net.seen[-2:] == [(torch.float32, False, torch.float32, nn.BatchNorm2d)] * 2


def test_compiled_networks_are_not_run_as_they_are(monkeypatch):
    compiled = []

    def stand_in(network, dynamic):
        compiled.append((network.name, dynamic, torch._dynamo.config.recompile_limit))
        return lambda x: compiled.append(f'runs {network.name}')

    monkeypatch.setattr(torch, 'compile', stand_in)
    networks = {f'net{i}': nn.Identity() for i in range(3)}
    for name, network in networks.items():
        network.name = name
    got = compare_latency(networks, (1, 2, 2), repeats=1, warmup=0, compile=True)
    assert compiled[:3] == [(name, False, 12) for name in networks]  # room for all in the compiler's cache
    assert compiled[3:] == [f'runs {name}' for name in networks] * 2
    assert all(one.compiled for one in got.values())


def test_a_compiler_that_is_not_there_is_told(monkeypatch):
    def stand_in(network, dynamic):
        def fail(x):
            raise RuntimeError('InvalidCxxCompiler: No working C++ compiler found\nand much more')

        return fail

    monkeypatch.setattr(torch, 'compile', stand_in)
    message = r'net does not run \(float32 on cpu, compiled, .*\): .*No working C\+\+ compiler found$'
    with pytest.raises(ValueError, match=message):
        compare_latency(dict(net=nn.Identity()), (1, 2, 2), compile=True)


def test_an_input_that_does_not_fit_is_told():
    with pytest.raises(
        ValueError, match=r'net does not run \(float32 on cpu, for 3 images of \(2, 4, 4\)\): .*channels'
    ):
        compare_latency(dict(net=nn.Conv2d(1, 1, 1)), (2, 4, 4), batch_size=3)


def test_rounds_begin_with_another_pass_each_time(monkeypatch):
    clock, order = Clock(), []
    monkeypatch.setattr(latency, 'time', clock)
    passes = {name: lambda name=name: order.append(name) or [1.0, len(order)] for name in 'abc'}
    times = rounds(passes, warmup=1, repeats=2)
    assert ''.join(order) == 'abcbcacab'
    assert times == dict(a=[[1.0, 6], [1.0, 8]], b=[[1.0, 4], [1.0, 9]], c=[[1.0, 5], [1.0, 7]])
