"""The solver's choice against brute force, and what it refuses."""

import itertools
import os
import random

import pytest

from mmrecast.planning import choice as choice_module
from mmrecast.planning.choice import Choice, Option, best, cheapest, choose


def random_blocks(seed: int) -> list[list[Option]]:
    """Return up to five blocks of up to five options with two kinds of cost and up to three widths at each joint."""
    rng = random.Random(seed)
    widths = [rng.sample(range(1, 9), rng.randint(1, 3)) for _ in range(rng.randint(2, 6))]
    return [
        [
            Option(
                rng.choice(before), rng.choice(behind), rng.random(), dict(ms=rng.random(), params=rng.randint(1, 9))
            )
            for _ in range(rng.randint(1, 5))
        ]
        for before, behind in itertools.pairwise(widths)
    ]


def all_choices(blocks: list[list[Option]]) -> list[Choice]:
    """Return every choice whose joints agree."""
    return [
        Choice(tuple(own[j] for own, j in zip(blocks, positions, strict=True)), positions)
        for positions in itertools.product(*(range(len(own)) for own in blocks))
        if all(blocks[i][positions[i]].leaves == blocks[i + 1][positions[i + 1]].enters for i in range(len(blocks) - 1))
    ]


@pytest.mark.parametrize('seed', range(40))
def test_the_choice_is_that_of_brute_force(seed):
    blocks = random_blocks(seed)
    budgets = dict(ms=0.5 * len(blocks), params=5.0 * len(blocks))
    within = [c for c in all_choices(blocks) if all(c.cost(kind) <= budget for kind, budget in budgets.items())]
    chosen = choose(blocks, budgets)
    if not within:
        assert chosen is None
        return
    assert chosen.price == pytest.approx(min(c.price for c in within), abs=1e-7)
    assert chosen.positions in [c.positions for c in within]


@pytest.mark.parametrize('seed', range(10))
def test_the_best_few_are_those_of_brute_force(seed):
    blocks = random_blocks(seed)
    ranked = sorted(all_choices(blocks), key=lambda choice: choice.price)
    found = best(blocks, {}, 4)
    assert [c.price for c in found] == pytest.approx([c.price for c in ranked[:4]], abs=1e-7)
    assert len({c.positions for c in found}) == len(found)


def test_the_best_few_keep_their_distance():
    blocks = [[Option(4, 4, price, dict(ms=1.0)) for price in (0.1, 0.2, 0.3)] for _ in range(4)]
    found = best(blocks, {}, 5, by=2)
    assert len(found) == 5
    assert all(a.differs(b) >= 2 for a, b in itertools.combinations(found, 2))


@pytest.mark.parametrize('seed', range(10))
def test_the_cheapest_whatever_its_price(seed):
    blocks = random_blocks(seed)
    every = all_choices(blocks)
    found = cheapest(blocks, 'ms')
    assert (found is None) == (not every)
    assert found is None or found.cost('ms') == pytest.approx(min(c.cost('ms') for c in every))


def test_widths_must_agree():
    narrow, wide = Option(4, 2, 0.0, dict(ms=1.0)), Option(4, 4, 9.0, dict(ms=1.0))
    assert choose([[narrow, wide], [Option(4, 4, 0.0, dict(ms=1.0))]], {}).options[0] is wide
    assert choose([[narrow], [Option(4, 4, 0.0, dict(ms=1.0))]], {}) is None


def test_what_cannot_be_chosen_among():
    with pytest.raises(ValueError, match='there is no block'):
        choose([], {})
    with pytest.raises(ValueError, match='block 1 has no option'):
        choose([[Option(1, 1, 0.0, {})], []], {})
    with pytest.raises(ValueError, match='finite number'):
        choose([[Option(1, 1, float('nan'), {})]], {})


def test_what_the_solver_prints_is_kept_from_the_output(monkeypatch, capfd):
    """HiGHS writes to the process's own output now and then, past Python."""

    def talking(*args, **options):
        os.write(1, b'a step of the solver')
        return milp(*args, **options)

    milp = choice_module.milp
    monkeypatch.setattr(choice_module, 'milp', talking)
    print('before')
    assert choose([[Option(1, 1, 0.5, dict(ms=1.0))]], dict(ms=2.0)).price == 0.5
    print('after')
    assert capfd.readouterr().out == 'before\nafter\n'
