"""A stage that made its block worse than is wanted: what is judged, and what is needed to take it back."""

import copy
import math
from collections.abc import Collection

from torch import Tensor, nn

from mmrecast.surgery.plan import Plan
from mmrecast.utils.modules import get_module, set_module
from mmrecast.utils.names import nearest

ON_REGRESSION = ('keep', 'stop', 'restart', 'rollback')
RESTARTED, ROLLED_BACK = 'back to its start', 'rolled back to the source block'


class Regression:
    """What to do where a stage ends worse than is wanted.

    Args:
        what (str): 'keep', 'stop', 'restart' or 'rollback'; see :class:`mmrecast.algorithms.Recasting`.
        max_error (float, optional): Relative error above which it is worse. Defaults to None: none is.
        solved (bool): Whether stages begin with a closed form, than which their end is worse where its error is larger.

    Raises:
        ValueError: A value is out of range, or there is nothing to judge by.
    """

    def __init__(self, what: str, max_error: float | None, solved: bool) -> None:
        if what not in ON_REGRESSION:
            close = nearest(str(what), ON_REGRESSION)
            raise ValueError(f'on_regression must be one of {", ".join(ON_REGRESSION)}, got {what!r}{close}')
        numeric = isinstance(max_error, int | float) and not isinstance(max_error, bool)
        if max_error is not None and not (numeric and 0 < max_error < math.inf):
            raise ValueError(f'max_error must be a relative error greater than 0, got {max_error!r}')
        if max_error is not None and what == 'keep':
            raise ValueError("max_error is what on_regression goes by: set that to 'stop' or 'rollback'")
        if what == 'restart' and not solved:
            raise ValueError("on_regression='restart' goes back to a closed-form start: set start='closed_form'")
        if what != 'keep' and max_error is None and not solved:
            raise ValueError(f"on_regression={what!r} needs max_error, or start='closed_form' to compare with")
        self.what, self.max_error, self.solved = what, max_error, solved
        self.kept: dict[str, Tensor] = {}  # of the current stage: what would be put back

    def fingerprint(self) -> dict:
        """Return what decides on the weights; nothing where all is kept."""
        return {} if self.what == 'keep' else dict(on_regression=self.what, max_error=self.max_error)

    def worse(self, error: float | None, start: float | None) -> str | None:
        """Say in what a stage ended worse than is wanted, None where it did not.

        Args:
            error (float, optional): Relative error at its end.
            start (float, optional): And at its start.
        """
        if self.what == 'keep' or error is None:
            return None
        if self.solved and start is not None and error > start:
            return f'relative error {error:.4g} after training, {start:.4g} at its closed-form start'
        if self.max_error is not None and error > self.max_error:
            return f'relative error {error:.4g}, max_error is {self.max_error:g}'
        return None

    def keep(self, student: nn.Module, at_start: bool) -> None:
        """Copy, to the CPU, what may be put back: the student before a stage, or (``at_start``) as it starts."""
        if self.what == ('restart' if at_start else 'rollback'):
            self.kept = {name: value.detach().cpu().clone() for name, value in student.state_dict().items()}


def check_rollback(plan: Plan) -> None:
    """Refuse a plan with a block that could not be rolled back.

    Raises:
        ValueError: There is one; the message names it.
    """
    for step in plan.steps:
        try:
            plan.without([plan.entries[step].path])
        except ValueError as error:
            raise ValueError(
                f"on_regression='rollback': {error}; keep the widths (out_channels), or use 'stop' or 'restart'"
            ) from error


def put_back(student: nn.Module, teacher: nn.Module, modules: Collection[str]) -> None:
    """Put copies of the teacher's modules at these paths into the student, in place."""
    for path in modules:
        set_module(student, path, copy.deepcopy(get_module(teacher, path)).requires_grad_(True))
