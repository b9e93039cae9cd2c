"""What may be asked for of a whole network, in the kinds of cost that a choice is made by."""

from collections.abc import Mapping

KINDS = ('ms', 'params', 'mults', 'acts')
"""tuple[str]: Milliseconds of a batch; weights, multiplications and activation load as in ``analysis.complexity``."""
TOLERANCE = dict(ms=0.03)  # of a budget: a measured latency that is nearer to it is within it


def check_budgets(**given: float | None) -> None:
    """Refuse budgets that are none.

    Raises:
        ValueError: None is given, or one is no number above 0.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        raise ValueError('no budget: give a speed-up, a latency in ms, or a number of weights, multiplications or acts')
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float('inf'):
            raise ValueError(f'{name} must be a number above 0, got {value!r}')


def budgets_of(
    teacher: Mapping[str, float],
    speedup: float | None = None,
    latency_ms: float | None = None,
    max_params: int | None = None,
    max_mults: int | None = None,
    max_acts: int | None = None,
) -> dict[str, float]:
    """Return the largest cost of each kind that is limited; what is given has passed `check_budgets`.

    Args:
        teacher (Mapping[str, float]): What the teacher takes, by kind.
        speedup (float, optional): How many times as fast as the teacher, at least.
        latency_ms (float, optional): Milliseconds of a batch, at most.
        max_params, max_mults, max_acts (int, optional): Of the whole network.

    Raises:
        ValueError: The teacher is within all of them, as `excess` has it.
    """
    faster = None if speedup is None else teacher['ms'] / speedup
    latencies = [limit for limit in (faster, latency_ms) if limit is not None]
    limits = dict(ms=min(latencies, default=None), params=max_params, mults=max_mults, acts=max_acts)
    budgets = {kind: float(limit) for kind, limit in limits.items() if limit is not None}
    if not excess(teacher, budgets):
        told = ', '.join(f'{amount(kind, teacher[kind])} of {amount(kind, b)}' for kind, b in budgets.items())
        raise ValueError(f'the teacher is within the budget already ({told}): nothing needs to be recast')
    return budgets


def excess(taken: Mapping[str, float], budgets: Mapping[str, float]) -> dict[str, float]:
    """Return the quotient of what is taken and its budget, for those that are exceeded by more than ``TOLERANCE``."""
    return {
        kind: taken[kind] / budget
        for kind, budget in budgets.items()
        if taken[kind] > budget * (1 + TOLERANCE.get(kind, 0.0))
    }


def amount(kind: str, value: float) -> str:
    """Return a cost with its unit."""
    return f'{value:.3g} ms' if kind == 'ms' else f'{value:,.0f} {kind}'
