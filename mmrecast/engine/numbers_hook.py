"""Numbers that fail: NaN, infinity and divergence stop a run before they reach a checkpoint.

::

    step ─▶ losses (put by for the log), one flag: are all gradients finite? ─▶ every ``interval`` steps, at a stage's
    end and before every checkpoint: read, and where one is not finite, find what came first ─▶ FloatingPointError
"""

import math
from collections.abc import Iterable

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from torch import Tensor

from mmrecast.engine.numbers import check_stage_error, stop_line, what_failed
from mmrecast.registry import HOOKS

SKIPS = 20  # steps in a row that a scaled loss may take to find its scale


@HOOKS.register_module()
class NumbersHook(Hook):
    """Stop where a loss or a gradient is not finite, or a stage has diverged; every run has this hook.

    The message names the stage, its block and the iteration, what came first (input, teacher's output, loss, gradient),
    what to try, and the last good checkpoint: there is none with weights that are not finite. Nothing is read from the
    device between two looks; each step adds one pass over the gradients there (their largest value).

    Under float16 with scaled losses (``AmpOptimWrapper``) gradients may overflow, and such steps are skipped: they are
    not looked at, and losses count only where 20 in a row are not finite.

    Args:
        interval (int): Iterations between two looks. Defaults to 50.
        gradients (bool): Whether to note at each step whether all gradients are finite. Defaults to True.
        diverged (float, optional): A stage has diverged where the relative error at its end is more than this many
            times that at its start, or than 1 where that was smaller. Defaults to 100; None: never.

    Raises:
        ValueError: A value is out of range.
    """

    priority = 'HIGH'  # before anything is written at the same position

    def __init__(self, interval: int = 50, gradients: bool = True, diverged: float | None = 100.0) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval of the NumbersHook must be a whole number of at least 1, got {interval!r}')
        if not isinstance(gradients, bool):
            raise ValueError(f'gradients of the NumbersHook must be True or False, got {gradients!r}')
        numeric = isinstance(diverged, int | float) and not isinstance(diverged, bool)
        if diverged is not None and not (numeric and diverged > 1):
            raise ValueError(f'diverged of the NumbersHook must be a number greater than 1 or None, got {diverged!r}')
        self.interval, self.gradients = interval, gradients
        self.diverged = math.inf if diverged is None else diverged
        self._loop, self._wrapper = None, None
        self._since = 0  # of the stage's iterations, the first not looked at
        self._flags: list[tuple[int, Tensor]] = []
        self._row = 0  # losses in a row that are not finite
        self._handles: list = []

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Look at the gradients of a stage's optimiser(s) from its first iteration on."""
        if runner.optim_wrapper is self._wrapper:
            return
        self._forget()
        self._wrapper, self._loop = runner.optim_wrapper, runner.train_loop
        self._since = self._loop.stage_iter
        for wrapper in _wrappers(self._wrapper) if self.gradients else ():
            if not hasattr(wrapper, 'loss_scaler'):
                self._handles.append(wrapper.optimizer.register_step_pre_hook(self._note))

    def at_position(self, runner, kind: str) -> None:
        """Look every ``interval`` iterations of a stage."""
        if kind == 'iter' and runner.train_loop.stage_iter % self.interval == 0:
            self.look(runner)

    def before_keeping(self, runner) -> None:
        """Look at the end of a stage and before a checkpoint is written."""
        self.look(runner)

    def after_stage(self, runner, record: dict) -> None:
        """Look whether the stage has diverged."""
        check_stage_error(runner, record, self.diverged)

    def look(self, runner) -> None:
        """Read what has come since the last look.

        Raises:
            FloatingPointError: Something is not finite, in this process or another.
        """
        loop = runner.train_loop
        if loop is not self._loop or self._wrapper is None:  # nothing has been trained
            return
        found = self._found(loop, runner.message_hub)
        self._since, self._flags = loop.stage_iter, []
        together = [found] if loop.alone else runner._gather(found)
        first = earliest(together)
        if first is None:
            return
        said = what_failed(runner, *found) if found == first else None
        together = [said] if loop.alone else runner._gather(said)
        raise FloatingPointError(stop_line(runner, next(one for one in together if one), first[0] + 1))

    def _note(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        if grads:
            largest = torch.nn.utils.get_total_norm(grads, math.inf)
            self._flags.append((self._loop.stage_iter, largest.isfinite()))

    def _found(self, loop, hub) -> tuple[int, str, str] | None:
        """Return the first iteration of the stage (from 0) where a number is not finite, what it is and its name."""
        count, found = max(loop.stage_iter - self._since, 0), []  # behind a stage's end it stands at 0
        losses = {name.removeprefix('train/'): buffer for name, buffer in hub.log_scalars.items() if 'loss' in name}
        bad: dict[int, list[str]] = {}
        for name, buffer in losses.items() if count else ():
            values = buffer.data[0][-count:]
            for i in [i for i, value in enumerate(values) if not math.isfinite(value)]:
                bad.setdefault(loop.stage_iter - len(values) + i, []).append(name)
        scaled = any(hasattr(wrapper, 'loss_scaler') for wrapper in _wrappers(self._wrapper))
        for i in range(loop.stage_iter - count, loop.stage_iter):
            self._row = self._row + 1 if i in bad else 0
            if i in bad and (not scaled or self._row >= SKIPS):
                terms = [name for name in bad[i] if name != 'loss'] or bad[i]
                found.append((i, 'loss', ', '.join(terms)))
                break
        if self._flags:
            flags = torch.stack([flag for _, flag in self._flags]).tolist()
            found += [(i, 'gradient', '') for (i, _), fine in zip(self._flags, flags, strict=True) if not fine][:1]
        return earliest(found)

    def _forget(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._flags, self._row = [], [], 0


def earliest(found: Iterable[tuple[int, str, str] | None]) -> tuple[int, str, str] | None:
    """Return what came first of ``(iteration, kind, name)``: a loss before the gradient that it spoils everywhere.

    Gradients are averaged over the processes: one whose loss is finite gets those of another's that is not.
    """
    known = (one for one in found if one is not None)
    return min(known, key=lambda one: (one[0], one[1] != 'loss', one[2]), default=None)


def _wrappers(wrapper) -> list:
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
