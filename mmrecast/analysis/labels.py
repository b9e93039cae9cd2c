"""Find places for the names of points, so that none hides another name or a point."""

from collections.abc import Iterator, Sequence

Box = tuple[float, float, float, float]  # left, bottom, right, top

NEAR = 8.0  # between a point and its name, in the unit of the points
STEP = 11.0  # between one place tried and the next one further away
STEPS = 9


def place_labels(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], frame: Box
) -> list[tuple[float, float]]:
    """Return the centre of each name: beside its point where that is free, else as near as can be.

    The names are placed one after another, from the highest point down; each takes the place with the least overlap
    with points, names placed before and what lies outside the frame, the nearest one of those.

    Args:
        points (Sequence[tuple[float, float]]): (x, y), y upward.
        sizes (Sequence[tuple[float, float]]): (width, height) of each name.
        frame (Box): Where names should stay: (left, bottom, right, top).
    """
    marks = [(x - NEAR / 2, y - NEAR / 2, x + NEAR / 2, y + NEAR / 2) for x, y in points]
    taken: list[Box] = list(marks)
    places: dict[int, tuple[float, float]] = {}
    for index in sorted(range(len(points)), key=lambda i: (-points[i][1], points[i][0])):
        width, height = sizes[index]
        best, least = (0.0, 0.0), float('inf')
        for penalty, (x, y) in enumerate(_tried(points[index], width, height)):
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            hidden = sum(_overlap(box, other) for other in taken)
            outside = width * height - _overlap(box, frame)
            cost = hidden + 2 * outside + 0.2 * penalty
            if cost < least - 1e-6:
                best, least = (x, y), cost
        places[index] = best
        x, y = best
        taken.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return [places[index] for index in range(len(points))]


def _tried(point: tuple[float, float], width: float, height: float) -> Iterator[tuple[float, float]]:
    """Yield centres for a name, the nearest first: right and left of its point, above and below it, and further off."""
    x, y = point
    for step in range(STEPS):
        shift = step * STEP
        for sign in (1, -1) if step else (1,):
            yield x + NEAR + width / 2, y + sign * shift
            yield x - NEAR - width / 2, y + sign * shift
        for sign in (1, -1):
            yield x, y + sign * (NEAR + height / 2 + shift)


def _overlap(one: Box, other: Box) -> float:
    """Return the area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
