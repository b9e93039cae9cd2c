"""Counts against those of whole networks, and the line through measured ones."""

import itertools

import pytest
import torch
from tiny import SHAPE, classifier

from mmrecast.analysis.complexity import count
from mmrecast.analysis.latency_settings import LatencySettings
from mmrecast.models import build_network
from mmrecast.planning import costs as costs_module
from mmrecast.planning.candidates import candidates_of
from mmrecast.planning.choice import Choice
from mmrecast.planning.costs import calibrate, costs_of, options_of, random_choices, recipe_of, student_of
from mmrecast.surgery.chain import find_chain


@pytest.fixture
def options(teacher, chain, candidates):
    costs = costs_of(teacher, chain, candidates, repeats=1, warmup=0)
    return options_of(candidates, costs, [[0.0] * len(own) for own in candidates])


def test_counts_of_blocks_add_up_to_those_of_networks(teacher, chain, options):
    """Stem and head are a constant where the last width is kept."""
    last = [option for option in options[-1] if option.leaves == 8]
    rests = set()
    for choice in random_choices([*options[:-1], last], 'params', 12):
        whole = count(student_of(teacher, chain, choice), SHAPE, 'cifar')
        rests.add((whole.params - choice.cost('params'), whole.mults - choice.cost('mults')))
    assert rests == {(36.0, 36.0 * 64)}  # the stem: 1 → 4 channels of 3x3 on 8x8 pixels


def test_equal_forms_are_timed_once(monkeypatch):
    """The first two blocks are alike; the first one reads the stem at full width alone."""
    network = build_network(classifier(14)).eval()
    chain, own = find_chain(network, SHAPE), candidates_of(network, SHAPE, ['ConvBlock'], (1, 0.5))
    timed = []

    def each_another(forms, *_):
        timed.extend(forms)
        return {key: 1.0 + i for i, key in enumerate(forms)}

    monkeypatch.setattr(costs_module, '_timed', each_another)
    found = costs_of(network, chain, own)
    assert sum(map(len, own)) > len(timed) == len(set(timed))
    ms = [{c.name: cost['ms'] for c, cost in zip(*both, strict=True)} for both in zip(own, found, strict=True)]
    assert set(ms[0]) == {'kept 4→4', 'ConvBlock 4→4', 'ConvBlock 4→2'} < set(ms[1])
    assert all(ms[1][name] == time for name, time in ms[0].items()) and len({*ms[1].values()}) == len(ms[1])


def test_random_choices_differ_and_agree(options):
    found = random_choices(options, 'params', 10, seed=1)
    assert len({choice.positions for choice in found}) == 10
    for choice in found:
        assert all(a.leaves == b.enters for a, b in itertools.pairwise(choice.options))
    sizes = [choice.cost('params') for choice in found]
    assert max(sizes) > 2 * min(sizes)


def test_a_choice_of_what_is_there_has_no_recipe(teacher, chain, options):
    kept = [next(i for i, o in enumerate(own) if o.what.target is None) for own in options]
    choice = Choice(tuple(own[j] for own, j in zip(options, kept, strict=True)), tuple(kept))
    assert recipe_of(choice) == []
    assert count(student_of(teacher, chain, choice), SHAPE, 'cifar') == count(teacher, SHAPE, 'cifar')


def test_the_line():
    line = calibrate([1.0, 2.0, 4.0], [2.5, 3.5, 5.5])
    assert (line.slope, line.intercept) == pytest.approx((1.0, 1.5))
    assert line.blocks(line.whole(3.3)) == pytest.approx(3.3)


def test_a_fast_network_counts_as_much_as_a_slow_one():
    """Σ ((a + b·s) / w − 1)² is the smallest; a line by absolute errors would be off by half for the first one."""
    sums, wholes = torch.tensor([1.0, 2.0, 10.0, 20.0]).double(), torch.tensor([1.0, 2.2, 12.0, 30.0]).double()
    rows = torch.stack([1 / wholes, sums / wholes], 1)
    a, b = torch.linalg.solve(rows.T @ rows, rows.T @ torch.ones(4).double()).tolist()
    line = calibrate(sums.tolist(), wholes.tolist())
    assert (line.intercept, line.slope) == pytest.approx((a, b))
    assert abs(line.whole(1.0) - 1.0) < 0.1


def test_mistakes(teacher, chain, candidates):
    with pytest.raises(ValueError, match='at least three networks, got 2'):
        calibrate([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ValueError, match='measure again on a quieter machine'):
        calibrate([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match='plan without compile'):
        costs_of(teacher, chain, candidates, settings=LatencySettings(compile=True))
    with pytest.raises(ValueError, match='repeats must be at least 1'):
        costs_of(teacher, chain, candidates, repeats=0)
