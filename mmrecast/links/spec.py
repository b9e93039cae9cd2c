"""What a config says of a link: checked, and its taps resolved."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from mmrecast.links.taps import Tap, parse_taps
from mmrecast.utils.names import nearest

STAGES = ('pretrain', 'train')
Taps = Tap | list[Tap] | None


@dataclass(frozen=True)
class LinkSpec:
    """What a config says of one link, checked and with its taps resolved.

    Args:
        index (int): Its place in the list of links.
        student, teacher (Tap | list[Tap] | None): What is compared.
        loss (dict | nn.Module): The loss.
        connector, teacher_connector (dict | str | nn.Module, optional): Modules between a tap and the loss; a string is
            the name of one of the model's ``connectors``.
        stage (str): 'train' or 'pretrain', the kind of stage it counts in.
        name (str): What its loss is called in logs.
        warmup (float): Share of its stage over which its weight grows from 0 to 1.
    """

    index: int
    student: Taps
    teacher: Taps
    loss: Mapping | nn.Module
    connector: Mapping | str | nn.Module | None = None
    teacher_connector: Mapping | str | nn.Module | None = None
    stage: str = 'train'
    name: str = ''
    warmup: float = 0.0

    @property
    def where(self) -> str:
        """str: For messages."""
        return f'link {self.name or self.index}'

    def taps(self, side: str) -> list[Tap]:
        """Return the taps of 'student' or 'teacher' as a list."""
        taps = getattr(self, side)
        return [] if taps is None else taps if isinstance(taps, list) else [taps]

    @classmethod
    def from_config(
        cls,
        index: int,
        entry: Mapping,
        aliases: Mapping[str, Mapping],
        student: nn.Module,
        teacher: nn.Module | None,
    ) -> 'LinkSpec':
        """Check a config entry and resolve its taps.

        Args:
            index (int): Its place in the list.
            entry (dict): The entry.
            aliases (Mapping): Names of taps by side.
            student, teacher (nn.Module): Where the taps stand.

        Raises:
            ValueError: A key is unknown, missing, or its value is not what it should be.
            KeyError: A tap does not exist.
        """
        keys = [name for name in cls.__dataclass_fields__ if name != 'index']
        if not isinstance(entry, Mapping):
            raise ValueError(f'link {index} must be a dict(student=…, teacher=…, loss=dict(type=…)), got {entry!r}')
        for key in entry:
            if key not in keys:
                raise ValueError(f'link {index} has no key {key!r}{nearest(str(key), keys)}')
        if entry.get('loss') is None:
            raise ValueError(f"link {index} needs a loss, e.g. loss=dict(type='MSELoss')")
        values = dict(entry)
        if values.get('student') is None and values.get('teacher') is None:
            raise ValueError(f'link {index} needs a tap: student=…, teacher=…')
        if values.get('teacher') is not None and teacher is None:
            raise ValueError(f'link {index} reads a teacher, but there is no teacher: give teacher=…')
        if values.get('student') is None and values.get('teacher_connector') is None:
            raise ValueError(f'link {index} has no student tap: then teacher_connector=… is what trains')
        for side, connector, network in (
            ('student', 'connector', student),
            ('teacher', 'teacher_connector', teacher),
        ):
            if values.get(side) is None and values.get(connector) is not None:
                raise ValueError(f'link {index} has a {connector} but no {side} tap')
            taps = values.get(side)
            try:
                values[side] = None if taps is None else parse_taps(taps, aliases.get(side, {}), network)
            except (KeyError, ValueError) as error:
                raise type(error)(f'link {index}: {side} tap: {error.args[0]}') from error
        if values.get('stage', 'train') not in STAGES:
            raise ValueError(f'link {index}: stage must be one of {", ".join(STAGES)}, got {values["stage"]!r}')
        name = values.get('name', '')
        if not isinstance(name, str):
            raise ValueError(f'link {index}: name must be a string, got {name!r}')
        warmup = values.get('warmup', 0.0)
        if isinstance(warmup, bool) or not isinstance(warmup, int | float) or not 0 <= warmup <= 1:
            raise ValueError(f'link {index}: warmup is a share of the stage, from 0 to 1, got {warmup!r}')
        return cls(index, **values)
