"""What a training step logs: read on the host when somebody asks for it, not at every step.

Reading a number of the device waits for all that was queued there. mmengine's ``RuntimeInfoHook`` reads each one at
each step; :class:`LateInfoHook` puts them by, and whoever looks at a history (a line of the log, a checkpoint, another
hook) makes all of them be read at once::

    step ─▶ LateValues (tensors) ── first look at any history ─▶ LateHistory (numbers) of each name
"""

import numpy as np
import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

from mmrecast.registry import HOOKS

LIMIT = 10_000  # values put by; they are read then, whether anybody looks or not


class LateHistory(HistoryBuffer):
    """A history of one name whose newest values may not have been read yet.

    Args:
        late (LateValues): Where they wait.
        history (HistoryBuffer, optional): What there is already.
    """

    def __init__(self, late: 'LateValues', history: HistoryBuffer | None = None) -> None:
        self._late = late
        super().__init__(*(() if history is None else history.data))

    def extend(self, values: list[float]) -> None:
        """Append values that were read, each with a count of 1."""
        for name, new in (('_logs', values), ('_counts', [1] * len(values))):
            old = getattr(self, name)
            joined = np.append(old, new) if len(old) else np.array(new)
            setattr(self, name, joined[-self.max_length :])

    @property
    def _log_history(self) -> np.ndarray:
        self._late.read()
        return self._logs

    @_log_history.setter
    def _log_history(self, values: np.ndarray) -> None:
        self._logs = values

    @property
    def _count_history(self) -> np.ndarray:
        self._late.read()
        return self._counts

    @_count_history.setter
    def _count_history(self, values: np.ndarray) -> None:
        self._counts = values

    def __deepcopy__(self, memo: dict) -> HistoryBuffer:
        """Return a plain history with all values, as a checkpoint holds it."""
        logs, counts = self.data
        plain = HistoryBuffer(max_length=self.max_length)
        plain._log_history, plain._count_history = logs.copy(), counts.copy()
        return plain


class LateValues:
    """Values that are still on the device."""

    def __init__(self) -> None:
        self._waiting: list[tuple[LateHistory, Tensor]] = []

    def add(self, hub: MessageHub, name: str, value: Tensor) -> None:
        """Put a tensor of one element by for the history ``name`` of ``hub``."""
        history = hub.log_scalars.get(name)
        if not isinstance(history, LateHistory):
            hub._set_resumed_keys(name, True)
            history = hub.log_scalars[name] = LateHistory(self, history)
        self._waiting.append((history, value.detach().reshape(()).clone()))  # an algorithm may write to it later
        if len(self._waiting) >= LIMIT:
            self.read()

    def read(self) -> None:
        """Hand every history its values: the host waits once for each device and dtype, as a rule once."""
        waiting, self._waiting = self._waiting, []
        groups: dict[tuple, list[int]] = {}
        for i, (_, value) in enumerate(waiting):
            groups.setdefault((value.device, value.dtype), []).append(i)
        numbers: dict[int, float] = {}
        for indices in groups.values():
            numbers |= zip(indices, torch.stack([waiting[i][1] for i in indices]).tolist(), strict=True)
        histories: dict[LateHistory, list[float]] = {}
        for i, (history, _) in enumerate(waiting):
            histories.setdefault(history, []).append(numbers[i])
        for history, values in histories.items():
            history.extend(values)


@HOOKS.register_module()
class LateInfoHook(RuntimeInfoHook):
    """mmengine's RuntimeInfoHook, with the outputs of a step read when they are looked at."""

    def __init__(self) -> None:
        self._late = LateValues()

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        """Put the outputs of a step by."""
        for key, value in (outputs or {}).items():
            if isinstance(value, Tensor) and value.numel() == 1:
                self._late.add(runner.message_hub, f'train/{key}', value)
            else:
                runner.message_hub.update_scalar(f'train/{key}', value)
