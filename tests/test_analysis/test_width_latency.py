from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmrecast.algorithms.width_cost import WidthCost
from mmrecast.analysis import latency, module_pass, width_latency
from mmrecast.analysis.latency_settings import LatencySettings
from mmrecast.analysis.module_pass import CALLS, ModulePass
from mmrecast.analysis.width_latency import measure_widths
from mmrecast.surgery.channels import trace_channels

SHAPE = (3, 8, 8)


class Clock:
    """Stands in for the time module: layers advance it."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


CLOCK = Clock()  # shared with copies
RAN: list = []  # (channels in, channels out, input's shape, its strides) of every convolution that ran


class TickingConv(nn.Conv2d):
    """Takes a millisecond per pair of channels, and 1000 per pixel of its input's width."""

    def forward(self, input):
        x = input
        CLOCK.now += self.in_channels * self.out_channels / self.groups / 1000 + x.shape[-1]
        RAN.append((self.in_channels, self.out_channels, tuple(x.shape), x.stride()))
        return super().forward(x)


class TickingLinear(nn.Linear):
    """Takes a millisecond per pair of features."""

    def forward(self, x):
        CLOCK.now += self.in_features * self.out_features / 1000
        return super().forward(x)


class TickingNorm(nn.BatchNorm2d):
    """Takes a millisecond per channel, which the sum over the layers leaves out."""

    def forward(self, x):
        CLOCK.now += self.num_features / 1000
        return super().forward(x)


class Net(nn.Module):
    """stem: 3 → 4; deep: 4 → 8, at half the size; same: 8 → 8 in 4 groups, called twice; fc: 8 · 4 · 4 → 10."""

    def __init__(self):
        super().__init__()
        self.stem = TickingConv(3, 4, 3, padding=1)
        self.deep = TickingConv(4, 8, 3, stride=2, padding=1)
        self.norm = TickingNorm(8)
        self.same = TickingConv(8, 8, 3, padding=1, groups=4)
        self.fc = TickingLinear(8 * 16, 10)

    def forward(self, x):
        x = self.norm(self.deep(self.stem(x)))
        return self.fc((x + self.same(self.same(x))).flatten(1))


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    RAN.clear()
    monkeypatch.setattr(module_pass, 'time', CLOCK)
    monkeypatch.setattr(latency, 'time', CLOCK)
    monkeypatch.setattr(latency, '_interruptions', lambda: 0)


@pytest.fixture
def net():
    return Net().eval()


def measure(net, divisors, **options):
    options = dict(repeats=2, warmup=1) | options
    return measure_widths(net, trace_channels(net, SHAPE), divisors, 'net', **options)


DIVISORS = dict(stem=[2], deep=[4, 1, 2])


def test_every_layer_at_every_combination_of_widths(net):
    table = measure(net, DIVISORS)
    assert table['divisors'] == dict(stem=[1, 2], deep=[1, 2, 4])
    entries = table['layers']
    assert {path: entry['width_groups'] for path, entry in entries.items()} == dict(
        stem=['stem'], deep=['stem', 'deep'], same=['deep'], fc=['deep']
    )
    times = {path: torch.tensor(entry['milliseconds']).tolist() for path, entry in entries.items()}
    assert times == dict(
        stem=[8012, 8006],  # 3 · 4 and 3 · 2, and eight pixels
        deep=[[8032, 8016, 8008], [8016, 8008, 8004]],
        same=[8032, 8016, 8008],  # two calls of 8 · 8 / 4, 4 · 4 / 2 and 2 · 2 / 1 on four pixels
        fc=[1280, 640, 320],
    )


def test_the_sum_over_the_layers_is_compared_to_the_network(net):
    """What is left out here is BatchNorm; the stem, which has no divisor 4, stays as it is there."""
    whole = measure(net, DIVISORS)['whole']
    assert [(one['divisor'], round(one['layers_ms'], 6), round(one['network_ms'], 6)) for one in whole] == [
        (1, 25356, 25364), (2, 24670, 24674), (4, 24348, 24350)
    ]  # fmt: skip
    assert [one['ratio'] for one in whole] == pytest.approx([25356 / 25364, 24670 / 24674, 24348 / 24350])


def test_the_table_is_a_cost(net):
    graph = trace_channels(net, SHAPE)
    cost = WidthCost(graph, dict(stem=(1, 2), deep=(4, 2)), 'latency', measure(net, DIVISORS))
    assert cost.exact(dict(stem=2, deep=4)) == pytest.approx(8006 + 8004 + 8008 + 320)
    half = dict(stem=torch.tensor([0.5, 0.5]), deep=torch.tensor([0.5, 0.5]))
    assert cost(half).item() == pytest.approx(8009 + 8009 + 8012 + 480)


def test_what_the_table_tells_of_itself(net):
    table = measure(net, DIVISORS, batch_size=3, settings=LatencySettings(threads=1))
    assert (table['network'], table['input_shape'], table['batch_size']) == ('net', [3, 8, 8], 3)
    assert (table['repeats'], table['warmup'], table['settings']['threads']) == (2, 1, 1)
    assert table['settings']['dtype'] == 'float32' and 'BatchNorm' in table['left_out']


@pytest.mark.parametrize(
    ('channels_last', 'strides'),
    [(False, {(128, 64, 8, 1), (256, 64, 8, 1)}), (True, {(128, 1, 16, 2), (256, 1, 32, 4)})],
)
def test_layers_run_alone_on_inputs_of_their_own_size(channels_last, strides, net):
    settings = LatencySettings(channels_last=channels_last)
    measure(net, dict(stem=[2], deep=[2]), repeats=1, warmup=0, batch_size=5, settings=settings)
    crossed = [run for run in RAN if run[:2] in ((2, 8), (4, 4)) and run[2][-1] == 8]  # in no network of one divisor
    assert {shape for _, _, shape, _ in crossed} == {(5, 2, 8, 8), (5, 4, 8, 8)}
    assert {stride for *_, stride in crossed} == strides and len(crossed) == 2


def test_equal_layers_are_measured_once():
    def layers():
        return [TickingConv(4, 4, 3, padding=1) for _ in range(3)]

    net = nn.Sequential(TickingConv(3, 4, 1), *layers(), TickingConv(4, 4, 3, padding=1, bias=False), nn.Flatten())
    net.append(nn.Linear(4 * 64, 10)).eval()
    table = measure(net, {})
    assert table['measured'] == 4  # the first one, three equal ones, the one without a bias, the classifier
    RAN.clear()
    net[2] = TickingConv(4, 4, 5, padding=2)
    assert measure(net, {})['measured'] == 5
    net[2] = TickingConv(4, 4, 3, padding=1, groups=4)
    assert measure(net, {})['measured'] == 5
    net[2] = nn.Conv2d(4, 4, 3, padding=1)
    assert measure(net, {})['measured'] == 5


def test_medians_over_rounds_in_which_all_take_turns(net, monkeypatch):
    asked = []

    def rounds(passes, warmup, repeats):
        asked.append((len(passes), warmup, repeats))
        return {key: [[1.0], [9.0], [2.0]] for key in passes}

    monkeypatch.setattr(width_latency, 'rounds', rounds)
    table = measure(net, DIVISORS, warmup=4, repeats=3)
    assert asked == [(3 + 2 + 6 + 3 + 3, 4, 3)]  # three networks and all layers at all their widths
    assert table['layers']['deep']['milliseconds'] == [[2.0] * 3] * 2
    assert [one['layers_ms'] for one in table['whole']] == [8.0] * 3


def test_the_network_is_left_as_it_was(net):
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    measure(net, DIVISORS)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training and net.norm.training and net.stem.out_channels == 4
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_layer_that_is_given_its_input_by_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = TickingConv(3, 4, 1), TickingLinear(4 * 64, 10)

        def forward(self, x):
            return self.fc(self.conv(input=x).flatten(1))

    assert measure(Named().eval(), {})['layers']['conv']['milliseconds'] == pytest.approx(8012)


def test_a_gpu_gets_several_passes_in_a_row():
    done, waited = [], []

    def module(x):
        done.append(x)
        CLOCK.now += 0.003

    on_gpu = SimpleNamespace(is_cuda=True)
    alone = ModulePass(module, [on_gpu, on_gpu], lambda: waited.append(len(done)))
    assert alone() == pytest.approx([6])
    assert waited == [0, 2 * CALLS]


@pytest.mark.parametrize(
    ('divisors', 'options', 'message'),
    [
        (dict(stem=[3]), {}, "divisor=3 does not divide the 4 channels of 'stem'"),
        (dict(deep=[8]), {}, "divisor=8 leaves none of the 4 groups .* of 'deep'"),
        (dict(fc=[2]), {}, "'fc' cannot narrow: it is the network's output"),
        (dict(steam=[2]), {}, r"the network has no width group 'steam' \(nearest: stem"),
        ({}, dict(repeats=0), 'repeats must be at least 1, got 0'),
        ({}, dict(batch_size=0), 'batch_size must be at least 1, got 0'),
        ({}, dict(settings=LatencySettings(compile=True)), 'layers are measured alone: without compile and fuse_bn'),
        ({}, dict(settings=LatencySettings(fuse_bn=True)), 'layers are measured alone: without compile and fuse_bn'),
    ],
)
def test_mistakes(divisors, options, message, net):
    with pytest.raises(ValueError, match=message):
        measure(net, divisors, **options)


def test_a_layer_with_too_many_combinations():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList(nn.Conv2d(3, 2, 1) for _ in range(9))
            self.fc = nn.Linear(18 * 64, 10)

        def forward(self, x):
            return self.fc(torch.cat([branch(x) for branch in self.branches], 1).flatten(1))

    message = "'fc' has 512 combinations of the widths of 9 groups, at most 256 are measured: exclude some"
    with pytest.raises(ValueError, match=message):
        measure(Wide().eval(), {f'branches.{i}': [2] for i in range(9)})


def test_a_real_clock(net, monkeypatch):
    monkeypatch.undo()
    table = measure(net, DIVISORS)
    assert all(one['layers_ms'] > 0 and one['network_ms'] > 0 for one in table['whole'])
    assert not torch.is_inference_mode_enabled()
