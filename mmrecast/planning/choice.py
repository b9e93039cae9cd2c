"""One option per block, joints agreeing from block to block, the cheapest total price under budgets.

A path-constrained multiple-choice knapsack, solved exactly as a mixed-integer linear programme (HiGHS, by scipy)::

    min Σ price·x    Σ of a block's x = 1    Σ cost·x ≤ budget
                     Σ x that leave joint j with width w = Σ x that enter it with w
"""

import os
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

GAP = 1e-9  # relative, between what is found and what could be


@dataclass(frozen=True)
class Option:
    """One thing that a block may become.

    Args:
        enters (Hashable): What it takes from the block before, a width as a rule; of the first block it is free.
        leaves (Hashable): What it gives to the next one; of the last block it is free.
        price (float): What it costs in quality, at least 0 as a rule; prices add up.
        costs (Mapping[str, float]): What it takes, by the kind of cost; costs add up.
        what (Any): Whatever the caller means by it.
    """

    enters: Hashable
    leaves: Hashable
    price: float
    costs: Mapping[str, float]
    what: Any = None


@dataclass(frozen=True)
class Choice:
    """One option for every block.

    Args:
        options (tuple[Option]): In the order of the blocks.
        positions (tuple[int]): Where each stands in its block's list.
    """

    options: tuple[Option, ...]
    positions: tuple[int, ...]

    @property
    def price(self) -> float:
        """float: The sum of the prices."""
        return sum(option.price for option in self.options)

    def cost(self, kind: str) -> float:
        """Return the sum of one kind of cost."""
        return sum(option.costs[kind] for option in self.options)

    def differs(self, other: 'Choice') -> int:
        """Return for how many blocks another choice took another option."""
        return sum(a != b for a, b in zip(self.positions, other.positions, strict=True))


def choose(
    blocks: Sequence[Sequence[Option]], budgets: Mapping[str, float], apart_from: Sequence[Choice] = (), by: int = 1
) -> Choice | None:
    """Return the choice of the lowest price within every budget, None where there is none.

    Args:
        blocks (Sequence[Sequence[Option]]): Each block's options, in the order of the blocks.
        budgets (Mapping[str, float]): The largest sum of each kind of cost; kinds without one are free.
        apart_from (Sequence[Choice]): Choices that the new one must not be near. Defaults to none.
        by (int): In how many blocks it must differ from each of them. Defaults to 1.

    Raises:
        ValueError: There is no block, a block has no option, or a price or cost is no finite number.
        RuntimeError: The solver gave up.
    """
    return _solve(_Programme(blocks), [o.price for own in blocks for o in own], budgets, apart_from, by)


def cheapest(blocks: Sequence[Sequence[Option]], kind: str) -> Choice | None:
    """Return the choice of the lowest cost of a kind, whatever its price; None where no options fit together.

    Raises:
        ValueError, RuntimeError: As `choose`.
    """
    return _solve(_Programme(blocks), [o.costs[kind] for own in blocks for o in own], {}, (), 1)


def best(blocks: Sequence[Sequence[Option]], budgets: Mapping[str, float], count: int, by: int = 1) -> list[Choice]:
    """Return up to ``count`` choices by rising price, each differing from those before it in at least ``by`` blocks.

    Raises:
        ValueError, RuntimeError: As `choose`.
    """
    found: list[Choice] = []
    while len(found) < count:
        choice = choose(blocks, budgets, found, by)
        if choice is None:
            break
        found.append(choice)
    return found


class _Programme:
    """The constraints that hold whatever is asked for."""

    def __init__(self, blocks: Sequence[Sequence[Option]]) -> None:
        if not blocks:
            raise ValueError('there is no block to choose for')
        for i, own in enumerate(blocks):
            if not own:
                raise ValueError(f'block {i} has no option')
        self.blocks = blocks
        self.first = np.cumsum([0, *(len(own) for own in blocks)])
        self.flat = [option for own in blocks for option in own]
        numbers = [x for option in self.flat for x in (option.price, *option.costs.values())]
        if not np.isfinite(numbers).all():
            raise ValueError('every price and cost of an option must be a finite number')
        rows = [[(int(self.first[i] + j), 1.0) for j in range(len(own))] for i, own in enumerate(blocks)]
        self.right = [1.0] * len(rows)
        for i in range(len(blocks) - 1):
            flow: dict[Hashable, list[tuple[int, float]]] = {}
            for j, option in enumerate(blocks[i]):
                flow.setdefault(option.leaves, []).append((int(self.first[i] + j), 1.0))
            for j, option in enumerate(blocks[i + 1]):
                flow.setdefault(option.enters, []).append((int(self.first[i + 1] + j), -1.0))
            rows += flow.values()
            self.right += [0.0] * len(flow)
        self.equal = LinearConstraint(self.matrix(rows), self.right, self.right)

    def matrix(self, rows: Sequence[Sequence[tuple[int, float]]]) -> csr_array:
        """Return a sparse matrix of rows given as (column, value)."""
        entries = [(value, r, column) for r, row in enumerate(rows) for column, value in row]
        values, r, c = (np.array(part) for part in zip(*entries, strict=True))
        return csr_array((values, (r, c)), shape=(len(rows), len(self.flat)))


def _solve(
    programme: _Programme, objective: list[float], budgets: Mapping[str, float], apart_from: Sequence[Choice], by: int
) -> Choice | None:
    constraints = [programme.equal]
    for kind, budget in budgets.items():
        row = [(i, float(option.costs[kind])) for i, option in enumerate(programme.flat)]
        constraints.append(LinearConstraint(programme.matrix([row]), -np.inf, budget))
    for choice in apart_from:
        taken = [(int(programme.first[i] + j), 1.0) for i, j in enumerate(choice.positions)]
        constraints.append(LinearConstraint(programme.matrix([taken]), -np.inf, len(programme.blocks) - by))
    scale = max(map(abs, objective)) or 1.0  # the solver's tolerances are absolute
    with _nothing_printed():
        found = milp(
            np.array(objective) / scale,
            constraints=constraints,
            integrality=np.ones(len(programme.flat)),
            bounds=Bounds(0, 1),
            options=dict(mip_rel_gap=GAP),
        )
    if found.status == 2:  # infeasible
        return None
    if found.x is None or found.status != 0:
        raise RuntimeError(f'the choice of blocks was not solved: {found.message}')
    ranges = zip(programme.first[:-1], programme.first[1:], strict=True)
    positions = tuple(int(np.argmax(found.x[begin:end])) for begin, end in ranges)
    options = tuple(own[j] for own, j in zip(programme.blocks, positions, strict=True))
    return Choice(options, positions)


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Keep the solver, which tells of its steps now and then whatever it is asked, from the output."""
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no output
        yield
        return
    try:
        with open(os.devnull, 'w') as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
