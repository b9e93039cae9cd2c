"""Taps: what they are in a config, what a dry run finds out about them, what a forward pass gives."""

import pytest
import torch
from torch import nn

from mmrecast.links import Reader, Tap, parse_taps


class Net(nn.Module):
    """A stem, a module called twice, an in-place ReLU, a module that gives a pair, a classifier, one never called."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.twice = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pair = Pair()
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 2)
        self.never = nn.Identity()
        self.after = 0

    def forward(self, x):
        x = self.twice(self.twice(self.stem(x)))
        x = self.relu(self.norm(x))
        x = self.dropout(self.pair(x)[1])
        self.after += 1  # how often a pass came as far as this
        return self.fc(x)


class Pair(nn.Module):
    def forward(self, x):
        return x, 2 * x


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x():
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


def hooks(net):
    return [h for m in net.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]


def test_forms_of_a_tap(net):
    assert parse_taps('stem', {}, net) == Tap('stem')
    assert parse_taps(dict(path='twice', call=1, read='input'), {}, net) == Tap('twice', 1, 'input')
    assert parse_taps('logits', {}, net) == Tap('logits')
    aliases = dict(first='stem', all=['first', dict(path='fc', read='input')], stem='fc')
    assert parse_taps('all', aliases, net) == [Tap('fc'), Tap('fc', read='input')]  # an alias comes before a path
    assert parse_taps(['first', 'all'], dict(aliases, stem='stem'), net) == [
        Tap('stem'), Tap('stem'), Tap('fc', read='input'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('spec', 'error', 'message'),
    [
        ('stm', KeyError, r"Net has no module 'stm' .nearest: stem"),
        ('logit', KeyError, r"no module 'logit' .nearest: logits"),
        ('firs', KeyError, r"no module 'firs' .nearest: first"),
        (dict(path='stem', cal=1), ValueError, r"a tap has no key 'cal' .nearest: call"),
        (dict(call=1), ValueError, 'a tap needs a path'),
        (dict(path='stem', read='inside'), ValueError, "read must be 'output' or 'input', got 'inside'"),
        (dict(path='stem', call=-1), ValueError, 'call must be a whole number of at least 0, got -1'),
        (dict(path='stem', item=True), ValueError, 'item must be a whole number of at least 0, got True'),
        ([], ValueError, 'a list of taps is empty'),
        (3, ValueError, 'a tap is the path of a module.*got 3'),
        (dict(path=''), ValueError, 'the path of a tap is the name of a module'),
    ],
)
def test_wrong_taps(net, spec, error, message):
    with pytest.raises(error, match=message):
        parse_taps(spec, dict(first='stem'), net)


def test_what_a_pass_gives(net, x):
    net.eval()
    taps = [
        Tap('stem'),
        Tap('twice', 0),
        Tap('twice', 1),
        Tap('relu', read='input'),
        Tap('pair', item=0),
        Tap('logits'),
    ]
    reader = Reader('student', net, taps)
    probed = reader.probe(x)
    logits, read = reader.read(x)
    stem = net.stem(x)
    once = net.twice(stem)
    again = net.twice(once)
    before = net.norm(again)
    after = before.clamp(min=0)
    expected = [stem, once, again, before, after, net.fc(2 * after)]
    for tap, value in zip(taps, expected, strict=True):
        torch.testing.assert_close(read[tap], value)
        torch.testing.assert_close(probed[tap], value)
    torch.testing.assert_close(logits, expected[-1])
    assert not hooks(net)


def test_only_what_is_changed_in_place_is_copied(net, x):
    taps = [Tap('norm'), Tap('relu', read='input'), Tap('relu'), Tap('stem')]
    reader = Reader('student', net, taps)
    reader.probe(x)
    assert reader.copied == {Tap('norm'), Tap('relu', read='input')}
    read = reader.read(x)[1]
    assert (read[Tap('norm')] < 0).any() and (read[Tap('relu')] >= 0).all()
    read[Tap('norm')].square().sum().backward()  # the gradient goes through the copy
    assert net.stem.weight.grad.abs().sum() > 0


def test_a_dry_run_leaves_no_trace(net, x):
    net.train()
    net.norm.eval()
    modes = [m.training for m in net.modules()]
    buffers = {n: b.clone() for n, b in net.named_buffers()}
    state = torch.get_rng_state()
    values = Reader('student', net, [Tap('norm'), Tap('fc')]).probe(x)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(b, buffers[n]) for n, b in net.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(value.requires_grad for value in values.values()) and not hooks(net)


def test_a_cut_pass_ends_behind_the_last_tap(net, x):
    reader = Reader('student', net, [Tap('twice', 1), Tap('stem')])
    logits, read = reader.read(x, cut=True)
    assert logits is None and net.after == 0 and set(read) == {Tap('twice', 1), Tap('stem')}
    assert reader.read(x)[0] is not None and net.after == 1
    assert Reader('student', net, [Tap('stem'), Tap('logits')]).read(x, cut=True)[0] is not None and net.after == 2
    assert Reader('student', net, []).read(x, cut=True)[0] is not None  # nothing to stop behind
    assert not hooks(net)


@pytest.mark.parametrize(
    ('tap', 'message'),
    [
        (Tap('never'), "teacher tap 'never' is never read: Net does not call it"),
        (
            Tap('twice'),
            r"teacher tap 'twice' is read 2 times.*say which is meant, dict.path='twice', call=0. to call=1",
        ),
        (Tap('twice', 2), r"teacher tap 'twice' .call 2.: Net calls it 2 time.s., the last is 1"),
        (Tap('pair'), r"teacher tap 'pair' gives 2 items: say which, dict.path='pair', item=0. to item=1"),
        (Tap('pair', item=2), "teacher tap 'pair' .item 2. gives 2 items"),
    ],
)
def test_taps_that_cannot_be_read(net, x, tap, message):
    reader = Reader('teacher', net, [tap])
    for attempt in (reader.probe, reader.read):
        with pytest.raises(ValueError, match=message):
            attempt(x)
        assert not hooks(net)


def test_a_network_that_gives_no_tensor(x):
    class Wrapped(nn.Module):
        def forward(self, x):
            return dict(logits=x)

    with pytest.raises(ValueError, match="tap 'logits' gives dict, not a tensor: tap a module inside it"):
        Reader('teacher', Wrapped(), [Tap('logits')]).probe(x)


def test_hooks_are_gone_after_an_error(net):
    reader = Reader('student', net, [Tap('fc')])
    for attempt in (reader.probe, reader.read):
        with pytest.raises(RuntimeError):
            attempt(torch.randn(2, 99))
        assert not hooks(net)
