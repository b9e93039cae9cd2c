"""Multiplications of a recasting step, from a traced count of its two networks."""

from torch import nn

from mmrecast.analysis.complexity import LayerCount, count
from mmrecast.surgery.chain import Shape
from mmrecast.utils.modules import get_module


def step_mults(teacher: nn.Module, student: nn.Module, tap: str | None, input_shape: Shape) -> int:
    """Return the multiplications per image of a step that ends at ``tap`` (None: at the logits).

    Forward passes of both networks up to there; backward through the student as its ``requires_grad`` flags say: once
    per layer for the gradient of a weight that trains, once for that of its input where something before it trains.
    Convolutions and the classifier count; nothing is read from the weights' values.
    """
    forward = [_until(network, tap, input_shape) for network in (teacher, student)]
    total, trains = sum(row.mults for rows in forward for row in rows), False
    for row in forward[1]:
        total += row.mults * trains
        if get_module(student, row.path).weight.requires_grad:
            total, trains = total + row.mults, True
    return total


def whole_mults(teacher: nn.Module, student: nn.Module, input_shape: Shape) -> int:
    """Return the multiplications per image of a step in which both networks run whole and all of the student trains."""
    forward = [_until(network, None, input_shape) for network in (teacher, student)]
    first = forward[1][0].mults
    return sum(row.mults for row in forward[0]) + 3 * sum(row.mults for row in forward[1]) - first


def _until(network: nn.Module, tap: str | None, input_shape: Shape) -> list[LayerCount]:
    rows = [row for row in count(network, input_shape, 'imagenet').rows if row.mults]
    if tap is None:
        return rows
    last = max(i for i, row in enumerate(rows) if row.path == tap or row.path.startswith(f'{tap}.'))
    return rows[: last + 1]
