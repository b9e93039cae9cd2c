"""Processes that share the work of planning: each has a copy of one object, and calls a method of it."""

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from mmrecast.surgery.plan import target_class


def shared(one: Any, method: str, arguments: Sequence[tuple], jobs: int, targets: Iterable[dict]) -> Iterator[tuple]:
    """Call ``one.method(*arguments)`` for every tuple of arguments, and yield these in their order as they are done.

    Args:
        one (Any): The object; with several processes each has a copy, so that what it does has to lie in files.
        method (str): Which method.
        arguments (Sequence[tuple]): Of each call.
        jobs (int): Processes; PyTorch's threads are divided among them. With 1 the calls are made in this one.
        targets (Iterable[dict]): Configs of the target blocks that will be built.

    Raises:
        RuntimeError: A process ended.
    """
    if jobs < 2 or len(arguments) < 2:
        for own in arguments:
            getattr(one, method)(*own)
            yield own
        return
    threads = max(torch.get_num_threads() // jobs, 1)
    # A class comes to another process by its module, which registers the user's own blocks there, too.
    known = [target_class(name) for name in sorted({target['type'] for target in targets})]
    spawned = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(min(jobs, len(arguments)), spawned, _begin, (one, method, threads, known)) as pool:
        try:
            yield from pool.map(_call, arguments)
        except BrokenProcessPool as error:
            raise RuntimeError(
                f'one of {jobs} processes ended: out of memory, or a block ({", ".join(c.__name__ for c in known)}) '
                'whose module cannot be imported there; what is done is kept, go on with jobs=1'
            ) from error


_method: Any = None  # of a process that helps


def _begin(one: Any, method: str, threads: int, known: Sequence[type]) -> None:
    """Make a process ready; ``known`` has registered its classes by coming here."""
    from mmengine.logging import MMLogger

    from mmrecast.utils.setup_env import register_all_modules

    global _method
    torch.set_num_threads(threads)
    register_all_modules()
    MMLogger.get_current_instance().setLevel('WARNING')
    _method = getattr(one, method)


def _call(own: tuple) -> tuple:
    _method(*own)
    return own
