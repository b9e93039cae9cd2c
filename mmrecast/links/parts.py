"""Connectors and losses of links: what a config leaves out is filled in from shapes, what it gets wrong is named."""

import inspect
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mmrecast.links.taps import Tap
from mmrecast.registry import MODELS, unknown_type
from mmrecast.utils.mistakes import explained
from mmrecast.utils.names import nearest

Shape = tuple[int, ...]
OWN = ('in_channel', 'in_channels', 'dim_in')
OTHER = ('out_channel', 'out_channels', 'dim_out')


class PerTap(nn.ModuleList):
    """One connector for every tap of a list."""

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return what each connector makes of its tap's feature."""
        return [connector(feature) for connector, feature in zip(self, features, strict=True)]

    def reconstruct(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return each connector's reconstruction of its tap's feature."""
        return [connector.reconstruct(feature) for connector, feature in zip(self, features, strict=True)]


def build_loss(
    cfg: Mapping | nn.Module,
    what: str,
    own: Shape | list[Shape] | None = None,
    other: Shape | list[Shape] | None = None,
) -> nn.Module:
    """Build a loss; a module passes through.

    Args:
        cfg (dict | nn.Module): Its config.
        what (str): What it is, for messages.
        own, other (tuple | list[tuple], optional): Shapes, without the batch, of what the two sides give; a loss with a
            class method ``infer(own, other)`` fills in arguments that are left out. Defaults to None.

    Raises:
        KeyError: The type is not registered.
        ValueError: The config is no dict with a type.
        TypeError: An argument is unknown or missing.
    """
    if isinstance(cfg, nn.Module):
        return cfg
    cls = _class_of(cfg, what)
    inferred = cls.infer(own, other) if own is not None and other is not None and hasattr(cls, 'infer') else {}
    return _build(cls, cfg, inferred, what)


def build_connector(
    cfg: Mapping | nn.Module,
    own: Shape | list[Shape],
    other: Shape | list[Shape] | None,
    side: str,
    num_classes: int,
    network: nn.Module,
    taps: Tap | list[Tap],
    where: str,
) -> nn.Module:
    """Build a connector, with the arguments left out inferred.

    One with a method ``bind(network)`` or ``bind(network, taps)`` is shown the network it stands behind.

    Args:
        cfg (dict | nn.Module): Its config; a module passes through.
        own (tuple | list[tuple]): Shape, without the batch, of what it gets; a list for a list of taps.
        other (tuple | list[tuple], optional): Shape of what its output will be compared with.
        side (str): 'student' or 'teacher': whose taps it stands behind.
        num_classes (int): Width of the logits.
        network (nn.Module): The network its taps are of.
        taps (Tap | list[Tap]): They themselves.
        where (str): Which link it is of, for messages.

    Raises:
        KeyError: The type is not registered.
        TypeError: An argument is unknown, or missing and not to be inferred.
        ValueError: The config is no dict with a type, or the two sides have different numbers of taps.
    """
    if isinstance(cfg, nn.Module):
        return cfg
    cls = _class_of(cfg, f'{where}: connector')
    if isinstance(own, list) and not getattr(cls, 'takes_list', False):
        others = other if isinstance(other, list) else [other] * len(own)
        if len(others) != len(own):
            raise ValueError(f'{where}: {len(own)} taps of the {side} against {len(others)} of the other side')
        parts = zip(own, others, taps, strict=True)
        return PerTap(build_connector(cfg, a, b, side, num_classes, network, tap, where) for a, b, tap in parts)
    inferred = _inferred(cls, own, other, side, num_classes)
    connector = _build(cls, cfg, inferred, f'{where}: connector')
    if hasattr(connector, 'bind'):
        both = 'taps' in inspect.signature(connector.bind).parameters
        connector.bind(network, taps) if both else connector.bind(network)
    return connector


def _class_of(cfg: Mapping, what: str) -> type:
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ValueError(f'{what} is given as dict(type=…), got {cfg!r}')
    type_ = cfg['type']
    cls = MODELS.get(type_) if isinstance(type_, str) else type_
    if cls is None:
        raise KeyError(f'{what}: {unknown_type(type_, MODELS)}')
    return cls


def _inferred(cls: type, own: Shape | list[Shape], other: Shape | list[Shape] | None, side: str, classes: int) -> dict:
    values: dict[str, object] = dict(num_classes=classes)
    if not isinstance(own, list):
        values |= dict.fromkeys(OWN, own[0]) | {f'{side}_channels': own[0]}
        if other is not None and not isinstance(other, list):
            opposite = dict(student='teacher', teacher='student')[side]
            values |= dict.fromkeys(OTHER, other[0]) | {f'{opposite}_channels': other[0]}
    parameters = inspect.signature(cls).parameters
    values = {k: v for k, v in values.items() if k in parameters and parameters[k].default is inspect.Parameter.empty}
    return values | (cls.infer(own, other) if hasattr(cls, 'infer') else {})


def _build(cls: type, cfg: Mapping, inferred: Mapping, what: str) -> nn.Module:
    name = cfg['type'] if isinstance(cfg['type'], str) else cls.__name__
    given = {key: value for key, value in cfg.items() if key not in ('type', '_scope_')}
    parameters = inspect.signature(cls).parameters
    kinds = {p.kind for p in parameters.values()}
    named = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for key in given:
            if key not in named:
                raise TypeError(f'{what}: {name} takes no argument {key!r}{nearest(key, named)}')
    values = {**inferred, **given}
    for key in named:
        if key not in values and parameters[key].default is inspect.Parameter.empty:
            raise TypeError(f'{what}: {name} needs the argument {key!r}, which is not given')
    with explained():
        return MODELS.build(dict(values, type=cfg['type']))
