"""What a stage of a training schedule is."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from mmrecast.utils.names import nearest


@dataclass(frozen=True)
class Stage:
    """One step of a schedule: recast a block, fine-tune, train.

    Args:
        kind (str): What the algorithm is to do; each algorithm lists its kinds.
        epochs, iters (int, optional): Its length: exactly one of the two.
        blocks (str | list[str], optional): Blocks a recast entry stands for: 'all', or patterns; one stage each.
        block (str, optional): The block of this very stage; filled in when an entry is expanded.
        optim_wrapper (dict, optional): Config; one by name for each where an algorithm trains with several optimisers.
            Defaults to the config's top-level ``optim_wrapper``.
        param_scheduler (dict | list[dict], optional): Config(s), or these by the name of the optimiser; lengths count
            from the start of the stage, ``T_max``, ``total_iters`` and ``end`` default to its length. Defaults to the
            top-level ``param_scheduler``.
        val (bool): Whether to validate at its end. Defaults to True.
        parallel (bool): Whether its blocks train apart, each on one process, and are joined behind the last; for
            algorithms whose blocks need not wait for one another. Defaults to False.

    Raises:
        ValueError: A value is out of range.
    """

    kind: str
    epochs: int | None = None
    iters: int | None = None
    blocks: str | Sequence[str] | None = None
    block: str | None = None
    optim_wrapper: dict | None = None
    param_scheduler: dict | Sequence[dict] | None = None
    val: bool = True
    parallel: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not self.kind.isprintable():
            raise ValueError(f'the kind of a stage is a word, got {self.kind!r}')
        if (self.epochs is None) == (self.iters is None):
            raise ValueError(f'{self.name}: give exactly one of epochs and iters, got {self.epochs} and {self.iters}')
        for name in ('epochs', 'iters'):
            length = getattr(self, name)
            if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 0):
                raise ValueError(f'{self.name}: {name} must be a whole number of at least 1, got {length!r}')
        blocks = [self.blocks] if isinstance(self.blocks, str | None) else self.blocks
        if not isinstance(blocks, list | tuple) or not all(isinstance(b, str | None) for b in blocks) or not blocks:
            raise ValueError(f"{self.name}: blocks must be 'all', a pattern or a list of them, got {self.blocks!r}")
        if not isinstance(self.optim_wrapper, Mapping | None):
            raise ValueError(f'{self.name}: optim_wrapper must be a dict, got {self.optim_wrapper!r}')
        if not isinstance(self.parallel, bool):
            raise ValueError(f'{self.name}: parallel must be True or False, got {self.parallel!r}')
        check_schedulers(self.param_scheduler, f'{self.name}: param_scheduler')

    @property
    def name(self) -> str:
        """str: For people: the kind and the block."""
        return f'{self.kind} {self.block}' if self.block else self.kind

    def total_iters(self, batches: int) -> int:
        """Return its length in iterations where an epoch has ``batches``."""
        return self.iters if self.iters is not None else self.epochs * batches

    @classmethod
    def from_config(cls, entry: dict) -> 'Stage':
        """Make a stage of a config entry.

        Raises:
            ValueError: A key is unknown, ``kind`` is missing, or a value is out of range.
        """
        known = {f.name for f in fields(cls)} - {'block'}
        if not isinstance(entry, Mapping):
            raise ValueError(f'a stage is a dict(kind=…, epochs=…), got {entry!r}')
        if 'kind' not in entry:
            raise ValueError(f'a stage needs a kind, got {dict(entry)}')
        for key in entry:
            if key not in known:
                raise ValueError(f'unknown key {key!r} in stage {entry["kind"]!r}{nearest(key, known)}')
        return cls(**copy.deepcopy(dict(entry)))


def check_schedulers(value: object, what: str) -> None:
    """Check the form of a ``param_scheduler``.

    Raises:
        ValueError: ``value`` is neither a config, nor a list of them, nor None, nor one of these by the name of the
            optimiser.
    """
    if by_optimizer(value):
        for name, own in value.items():
            check_schedulers(own, f'{what}.{name}')
        return
    for scheduler in value if isinstance(value, list | tuple) else [] if value is None else [value]:
        if not isinstance(scheduler, Mapping) or 'type' not in scheduler:
            raise ValueError(f"{what} must be a dict(type='CosineAnnealingLR', …) or a list of them, got {value!r}")


def by_optimizer(schedulers: object) -> bool:
    """Tell whether schedulers are given by the name of the optimiser: ``dict(student=dict(type=…), generator=[…])``."""
    if not isinstance(schedulers, Mapping) or 'type' in schedulers or not schedulers:
        return False
    parts = [list(one) if isinstance(one, list | tuple) else [one] for one in schedulers.values()]
    return all(isinstance(one, Mapping) and 'type' in one for part in parts for one in part)
