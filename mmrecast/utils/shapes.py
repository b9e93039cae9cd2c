"""Shapes of images that files and users give."""

import math

MOST = 1 << 26  # numbers of an image: 3 x 4,729 x 4,729


def check_shape(shape: object) -> tuple[int, ...]:
    """Return the shape (C, H, W) of an image.

    Raises:
        ValueError: It is none, or larger than any network here could take.
    """
    whole = isinstance(shape, list | tuple) and all(type(size) is int and size > 0 for size in shape)
    if not whole or len(shape) != 3:
        raise ValueError(f'an input shape is three numbers (C, H, W) of at least 1, got {repr(shape)[:80]}')
    if math.prod(shape) > MOST:
        raise ValueError(f'an input shape has at most {MOST:,} numbers, got {str(tuple(shape))[:80]}')
    return tuple(shape)
