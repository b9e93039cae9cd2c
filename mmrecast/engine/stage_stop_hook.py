"""End a stage early: what it still gains is not worth its steps."""

import math
from collections.abc import Sequence

from mmengine.hooks import Hook
from torch import nn

from mmrecast.registry import HOOKS

_INFO = 'stage_stop'  # key in the message hub, which checkpoints keep


@HOOKS.register_module()
class StageStopHook(Hook):
    """End a stage whose relative error has stopped falling, or is small enough.

    The error (of the probe images, see ``StagedLoop``) is measured every ``interval`` iterations. The stage ends when
    it is at most ``error``, or has fallen by less than ``min_gain`` of itself since the last measurement. A scheduler
    has not reached its end then: let a rate that falls to 0 over the stage be a constant one.

    Args:
        interval (int): Iterations between two measurements. Defaults to 50.
        min_gain (float): Smallest fall worth going on for, a share of the error from 0 to 1. Defaults to 0.02.
        error (float): Relative error that is small enough. Defaults to 0: none is.
        kinds (Sequence[str]): Stages that may be ended. Defaults to 'recast' alone.

    Raises:
        ValueError: A number is out of range, or ``kinds`` names no stage.
    """

    def __init__(
        self, interval: int = 50, min_gain: float = 0.02, error: float = 0.0, kinds: Sequence[str] = ('recast',)
    ) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval of the StageStopHook must be a whole number of at least 1, got {interval!r}')
        for name, value, highest in (('min_gain', min_gain, 1), ('error', error, math.inf)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
                bounds = 'a share from 0 to 1' if name == 'min_gain' else 'at least 0'
                raise ValueError(f'{name} of the StageStopHook must be {bounds}, got {value!r}')
        if isinstance(kinds, str) or not kinds or not all(isinstance(kind, str) for kind in kinds):
            raise ValueError(f'kinds of the StageStopHook is a list of kinds of stages, got {kinds!r}')
        self.interval, self.min_gain, self.error, self.kinds = interval, min_gain, error, tuple(kinds)

    def check(self, model: nn.Module) -> None:
        """Refuse kinds of stages that the algorithm does not have.

        Raises:
            ValueError: There is one.
        """
        known = model.stage_kinds
        unknown = [kind for kind in self.kinds if kind not in known]
        if unknown:
            raise ValueError(f'StageStopHook: there is no stage {unknown[0]!r} here, but {", ".join(known)}')

    def at_position(self, runner, kind: str) -> None:
        """Measure, and end the stage if it is time, behind every ``interval``-th iteration of a stage."""
        loop = runner.train_loop
        if kind != 'iter' or loop.stage.kind not in self.kinds or loop.stage_iter % self.interval:
            return
        error = loop.relative_error()
        before = runner.message_hub.get_info(_INFO, None)
        before = before['error'] if before and before['stage'] == loop.stage_index else math.inf
        runner.message_hub.update_info(_INFO, dict(stage=loop.stage_index, error=error))
        if error is None:
            return
        if error <= self.error or error > before * (1 - self.min_gain):
            runner.logger.info(f'{loop.position}: relative error {before:.4f} → {error:.4f}: the stage ends here')
            loop.stop_training = True
