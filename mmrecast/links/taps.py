"""Taps: named places in a network, and the reading of their activations in one forward pass.

::

    config entry ─ parse_taps ─▶ Tap, Tap, …  ─ Reader ─▶ probe (dry run: shapes, calls) ─▶ read (every step)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from mmrecast.links.prefix import Reached
from mmrecast.utils.modules import get_module, hooked, untouched
from mmrecast.utils.names import nearest

LOGITS = 'logits'
ENDS = ('output', 'input')
_KEYS = ('path', 'call', 'read', 'item')


@dataclass(frozen=True)
class Tap:
    """A place in a network whose activation is read.

    Args:
        path (str): Path of a module, or 'logits' for what the network itself returns.
        call (int, optional): Which of the module's calls in one forward pass is meant, from 0. Defaults to None: it is
            called once.
        read (str): 'output' or 'input' of the module. Defaults to 'output'.
        item (int, optional): Which one, where the module gives a tuple. Defaults to None: there is one.

    Raises:
        ValueError: A value is none of these.
    """

    path: str
    call: int | None = None
    read: str = 'output'
    item: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(f'the path of a tap is the name of a module, got {self.path!r}')
        if self.read not in ENDS:
            raise ValueError(f"tap {self.path!r}: read must be 'output' or 'input', got {self.read!r}")
        for name in ('call', 'item'):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ValueError(f'tap {self.path!r}: {name} must be a whole number of at least 0, got {value!r}')

    def __str__(self) -> str:
        extra = [f'call {self.call}'] if self.call is not None else []
        extra += ['input'] if self.read == 'input' else []
        extra += [f'item {self.item}'] if self.item is not None else []
        return repr(self.path) + (f' ({", ".join(extra)})' if extra else '')


def parse_taps(
    spec: str | Mapping | Sequence | Tap, aliases: Mapping[str, object], network: nn.Module
) -> Tap | list[Tap]:
    """Turn what a link says into taps of ``network``.

    Args:
        spec (str | dict | list): An alias, 'logits', a module's path, ``dict(path=…, call=…, read=…, item=…)``, or a
            list of these.
        aliases (Mapping): Names and what they stand for, in the same forms.
        network (nn.Module): Whose modules are meant.

    Returns:
        Tap | list[Tap]: A list for a list.

    Raises:
        KeyError: A path does not exist; the message lists the nearest paths and aliases.
        ValueError: ``spec`` is of another form.
    """
    if isinstance(spec, str) and spec in aliases:
        return parse_taps(aliases[spec], {k: v for k, v in aliases.items() if k != spec}, network)
    if isinstance(spec, list | tuple):
        if not spec:
            raise ValueError('a list of taps is empty')
        taps = [parse_taps(one, aliases, network) for one in spec]
        return [tap for one in taps for tap in (one if isinstance(one, list) else [one])]
    if isinstance(spec, Mapping):
        for key in spec:
            if key not in _KEYS:
                raise ValueError(f'a tap has no key {key!r}{nearest(str(key), _KEYS)}')
        if 'path' not in spec:
            raise ValueError(f'a tap needs a path, got {dict(spec)}')
        spec = Tap(**spec)
    elif isinstance(spec, str):
        spec = Tap(spec)
    if not isinstance(spec, Tap):
        raise ValueError(f"a tap is the path of a module, 'logits' or dict(path=…), got {spec!r}")
    if spec.path == LOGITS:
        return spec
    try:
        get_module(network, spec.path)
    except KeyError:
        known = [LOGITS, *aliases, *filter(None, dict(network.named_modules()))]
        raise KeyError(f'{type(network).__name__} has no module {spec.path!r}{nearest(spec.path, known)}') from None
    return spec


class Reader:
    """Reads taps of one network.

    Hooks stand only while the network runs, and nothing read is kept.

    Args:
        side (str): 'student' or 'teacher', for messages.
        network (nn.Module): Images → logits.
        taps (Iterable[Tap]): What to read.
    """

    def __init__(self, side: str, network: nn.Module, taps: Iterable[Tap]) -> None:
        self.side, self.network, self.taps = side, network, list(dict.fromkeys(taps))
        self.copied: set[Tap] = set()  # worked on in place behind the tap

    @cached_property
    def _hooks(self) -> dict[tuple[str, str], list[Tap]]:
        hooks: dict[tuple[str, str], list[Tap]] = {}
        for tap in self.taps:
            if tap.path != LOGITS:
                hooks.setdefault((tap.path, tap.read), []).append(tap)
        return hooks

    @torch.no_grad()
    def probe(self, inputs: Tensor) -> dict[Tap, Tensor]:
        """Run the whole network once, leaving modes, buffers and random numbers as they were.

        Args:
            inputs (Tensor): (N, C, H, W).

        Returns:
            dict: What each tap reads.

        Raises:
            ValueError: A tap is never read, or more than once without ``call``, or reads no tensor.
        """
        reads: dict[tuple[str, str], list[tuple[object, object, list[int]]]] = {key: [] for key in self._hooks}

        def note(key):
            def hook(module, args, out=None):
                value = args[0] if key[1] == 'input' else out
                reads[key].append((value, _copied(value), [t._version for t in _tensors(value)]))

            return hook

        handles: list = []
        with torch.random.fork_rng(), untouched(self.network, training=None), hooked(handles):
            for key in reads:
                handles.append(_register(get_module(self.network, key[0]), key[1], note(key)))
            logits = self.network(inputs)
        values = {}
        for tap in self.taps:
            if tap.path == LOGITS:
                values[tap] = self._tensor(tap, logits)
                continue
            calls = reads[tap.path, tap.read]
            self._check_calls(tap, len(calls))
            value, copy, versions = calls[tap.call or 0]
            values[tap] = self._tensor(tap, copy)
            if [t._version for t in _tensors(value)] != versions:
                self.copied.add(tap)
        return values

    def read(self, inputs: Tensor, cut: bool = False) -> tuple[Tensor | None, dict[Tap, Tensor]]:
        """Run the network and return its logits and what each tap read.

        Args:
            inputs (Tensor): (N, C, H, W).
            cut (bool): Whether to stop when every tap has been read; it does not where 'logits' is one of them.

        Returns:
            tuple: The logits, None if the pass was cut; the activations by tap.

        Raises:
            ValueError: A tap was not read in this pass.
        """
        values: dict[Tap, Tensor] = {}
        counts = dict.fromkeys(self._hooks, 0)
        cut = cut and bool(self.taps) and not any(tap.path == LOGITS for tap in self.taps)

        def note(key, taps):
            def hook(module, args, out=None):
                for tap in taps:
                    if (tap.call or 0) == counts[key]:
                        value = self._tensor(tap, args[0] if key[1] == 'input' else out)
                        values[tap] = value.clone() if tap in self.copied else value
                counts[key] += 1
                if cut and len(values) == len(self.taps):
                    raise Reached(None)

            return hook

        handles: list = []
        logits = None
        with hooked(handles):
            for key, taps in self._hooks.items():
                handles.append(_register(get_module(self.network, key[0]), key[1], note(key, taps)))
            try:
                logits = self.network(inputs)
            except Reached:
                pass
        for tap in self.taps:
            if tap.path == LOGITS:
                values[tap] = self._tensor(tap, logits)
            elif tap not in values or (tap.call is None and counts[tap.path, tap.read] != 1):
                self._check_calls(tap, counts[tap.path, tap.read])
        return logits, values

    def _check_calls(self, tap: Tap, count: int) -> None:
        if not count:
            raise ValueError(f'{self.side} tap {tap} is never read: {self._name} does not call it in its forward pass')
        if tap.call is None and count > 1:
            raise ValueError(
                f'{self.side} tap {tap} is read {count} times in one forward pass: say which is meant, '
                f'dict(path={tap.path!r}, call=0) to call={count - 1}'
            )
        if tap.call is not None and tap.call >= count:
            raise ValueError(f'{self.side} tap {tap}: {self._name} calls it {count} time(s), the last is {count - 1}')

    def _tensor(self, tap: Tap, value: object) -> Tensor:
        if isinstance(value, list | tuple):
            if tap.item is None and len(value) == 1:
                value = value[0]
            elif tap.item is not None and tap.item < len(value):
                value = value[tap.item]
            else:
                raise ValueError(
                    f'{self.side} tap {tap} gives {len(value)} items: say which, dict(path={tap.path!r}, item=0) to '
                    f'item={len(value) - 1}'
                )
        if not isinstance(value, Tensor):
            raise ValueError(
                f'{self.side} tap {tap} gives {type(value).__name__}, not a tensor: tap a module inside it'
            )
        return value

    @property
    def _name(self) -> str:
        return type(self.network).__name__


def _register(module: nn.Module, end: str, hook):
    return module.register_forward_pre_hook(hook) if end == 'input' else module.register_forward_hook(hook)


def _copied(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value.clone() if isinstance(value, Tensor) else value


def _tensors(value: object) -> list[Tensor]:
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, Tensor)]
