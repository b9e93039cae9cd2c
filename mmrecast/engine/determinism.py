"""Runs that give the same bits on a GPU, too, and what to do where an operator cannot."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_NO_FORM = re.compile(r'(\S+) does not have a deterministic implementation')
_BLAS = 'uses CuBLAS'
WORKSPACE = ('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
"""tuple[str, str]: The variable without which multiplications on a GPU may come out otherwise, and its value."""


class NoDeterministicForm(RuntimeError):
    """An operator of the network or the loss has no deterministic form; the message says which and what to do."""


def prepare_workspace() -> None:
    """Let cuBLAS compute deterministically, unless the user has said how; it must come before the GPU is used."""
    os.environ.setdefault(*WORKSPACE)


@contextmanager
def named_operator() -> Iterator[None]:
    """Say in one line which operator has no deterministic form.

    Raises:
        NoDeterministicForm: One has none, on the device where it runs.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:  # the second where a dry run met it
        found = _NO_FORM.search(str(error))
        if found:
            raise NoDeterministicForm(
                f'{found[1]} has no deterministic form on this device: replace the layer or loss that calls it, '
                'or train without --deterministic (randomness.deterministic)'
            ) from error
        if _BLAS in str(error):
            raise NoDeterministicForm(
                f'{WORKSPACE[0]}={os.environ.get(WORKSPACE[0])} lets cuBLAS come out otherwise: '
                f'set it to {WORKSPACE[1]} or leave it out'
            ) from error
        raise
