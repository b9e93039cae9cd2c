"""A link: student tap, teacher tap, connectors and loss in one config entry."""

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmrecast.links.parts import Shape, build_connector, build_loss
from mmrecast.links.spec import LinkSpec, Taps
from mmrecast.links.taps import LOGITS, Tap
from mmrecast.utils.modules import untouched
from mmrecast.utils.names import nearest

EXTRAS = ('gt_labels', 'sample_idx')


class Link(nn.Module):
    """Compare what two taps read.

    With a student and a teacher tap: ``loss(connector(s), teacher_connector(t))``; with a student tap alone:
    ``loss(connector(s))``, a loss against the labels; with a teacher tap alone, which pre-trains a connector:
    ``loss(teacher_connector.reconstruct(t), t)``. A loss whose ``forward`` names ``gt_labels`` or ``sample_idx`` gets
    them. A loss with ``takes_list = True`` gets the two lists of a list of taps, any other is applied pair by pair and
    summed. In mixed precision losses are computed in float32: sums over many products lose too much in less.

    Args:
        spec (LinkSpec): What the config says.
        loss (nn.Module): Compares.
        connector, teacher_connector (nn.Module, optional): Built ones; those that the link owns (``owned``) are its
            submodules, the others belong to the algorithm.
        owned (tuple[str]): Which of the two belong to the link. Defaults to both.
    """

    def __init__(
        self,
        spec: LinkSpec,
        loss: nn.Module,
        connector: nn.Module | None = None,
        teacher_connector: nn.Module | None = None,
        owned: tuple[str, ...] = ('connector', 'teacher_connector'),
    ) -> None:
        super().__init__()
        self.spec = spec
        for name, module in (('connector', connector), ('teacher_connector', teacher_connector)):
            if name in owned:
                setattr(self, name, module)
            else:
                self.__dict__[name] = module
        self.loss = loss
        parameters = inspect.signature(self.loss.forward).parameters
        self.extras = tuple(name for name in EXTRAS if name in parameters)
        self.needs = tuple(n for n in self.extras if parameters[n].default is inspect.Parameter.empty)

    def forward(
        self,
        s_values: Mapping[Tap, Tensor],
        t_values: Mapping[Tap, Tensor],
        gt_labels: Tensor | None = None,
        sample_idx: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of what was read.

        Args:
            s_values, t_values (dict): Activations by tap.
            gt_labels, sample_idx (Tensor, optional): (N,) int64.

        Raises:
            ValueError: The loss needs what is None.
        """
        compared = self.features(s_values, t_values)
        given = dict(gt_labels=gt_labels, sample_idx=sample_idx)
        for name in self.needs:
            if given[name] is None:
                raise ValueError(
                    f'{self.spec.where}: {type(self.loss).__name__} needs {name}, which the data do not give'
                )
        extras = {name: given[name] for name in self.extras}
        compared = [_full_precision(one) for one in compared]
        with torch.autocast(_device_of(compared[0]).type, enabled=False):
            if isinstance(compared[0], list) and not getattr(self.loss, 'takes_list', False):
                return sum(self.loss(*pair, **extras) for pair in zip(*compared, strict=True))
            return self.loss(*compared, **extras)

    def features(self, s_values: Mapping[Tap, Tensor], t_values: Mapping[Tap, Tensor]) -> list:
        """Return what the loss compares: the positional arguments it gets."""
        s, t = _gather(self.spec.student, s_values), _gather(self.spec.teacher, t_values)
        if s is None:
            return [self.teacher_connector.reconstruct(t), t]
        s = s if self.connector is None else self.connector(s)
        if t is None:
            return [s]
        return [s, t if self.teacher_connector is None else self.teacher_connector(t)]


def _full_precision(value: Tensor | list | tuple) -> Tensor | list | tuple:
    if isinstance(value, list | tuple):
        return type(value)(_full_precision(one) for one in value)
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _device_of(value: Tensor | list | tuple) -> torch.device:
    return _device_of(value[0]) if isinstance(value, list | tuple) else value.device


def _gather(taps: Taps, values: Mapping[Tap, Tensor]) -> Tensor | list[Tensor] | None:
    return None if taps is None else [values[tap] for tap in taps] if isinstance(taps, list) else values[taps]


def build_link(
    spec: LinkSpec,
    values: Mapping[str, Mapping[Tap, Tensor]],
    networks: Mapping[str, nn.Module],
    num_classes: int,
    named: Mapping[str, Mapping],
    built: nn.ModuleDict,
) -> Link:
    """Build a link's connectors and loss, and try them on what a dry run read.

    Args:
        spec (LinkSpec): What the config says.
        values (Mapping): What the taps of 'student' and 'teacher' read in the dry run.
        networks (Mapping): The two networks.
        num_classes (int): Width of the student's logits.
        named (Mapping): Configs of the model's named connectors.
        built (nn.ModuleDict): Those built so far; the first link that uses one builds it.

    Raises:
        KeyError: A type is not registered, or a connector of that name does not exist.
        ValueError: An argument is wrong, or the loss cannot compare what the two sides give.
    """
    shapes = {side: _shapes(_gather(getattr(spec, side), values[side])) for side in ('student', 'teacher')}

    def build(cfg, side: str, own, other) -> nn.Module | None:
        if cfg is None or (isinstance(cfg, str) and cfg in built):
            return None if cfg is None else built[cfg]
        if isinstance(cfg, str) and cfg not in named:
            raise KeyError(f'{spec.where}: there is no connector {cfg!r} in connectors{nearest(cfg, named)}')
        config = named[cfg] if isinstance(cfg, str) else cfg
        network, taps = networks[side], getattr(spec, side)
        connector = build_connector(config, own, other, side, num_classes, network, taps, spec.where)
        if isinstance(cfg, str):
            built[cfg] = connector
        return connector

    with torch.no_grad():
        teacher = build(spec.teacher_connector, 'teacher', shapes['teacher'], shapes['student'])
        given = None if spec.teacher is None else _gather(spec.teacher, values['teacher'])
        if teacher is not None and spec.student is not None:
            given = _tried(teacher, given, spec, 'teacher')
        student = build(spec.connector, 'student', shapes['student'], _shapes(given))
        ours = None if spec.student is None else _gather(spec.student, values['student'])
        if student is not None:
            ours = _tried(student, ours, spec, 'student')
    if spec.student is None and not hasattr(teacher, 'reconstruct'):
        raise ValueError(
            f'{spec.where} has no student tap, so its teacher_connector needs a method reconstruct(feature), which '
            f'{type(teacher).__name__} has not'
        )
    owned = [name for name in ('connector', 'teacher_connector') if not isinstance(getattr(spec, name), str)]
    loss = build_loss(spec.loss, f'{spec.where}: loss', _shapes(ours), _shapes(given))
    link = Link(spec, loss, student, teacher, tuple(owned))
    _try(link, values, num_classes)
    return link


def _try(link: Link, values: Mapping[str, Mapping[Tap, Tensor]], num_classes: int) -> None:
    """Compute the link's loss once on what a dry run read; nothing of it stays."""
    spec = link.spec
    with torch.no_grad(), torch.random.fork_rng(), untouched(link, training=None):
        compared = link.features(values['student'], values['teacher'])
        shapes = [_shapes(one) for one in compared]
        if len(compared) == 2 and isinstance(compared[0], list) != isinstance(compared[1], list):
            raise ValueError(f'{spec.where}: a list of taps on one side against a single one on the other')
        if len(compared) == 2 and isinstance(compared[0], list) and len(compared[0]) != len(compared[1]):
            raise ValueError(f'{spec.where}: {len(compared[0])} taps of the student, {len(compared[1])} of the teacher')
        if _only_logits(spec) and spec.connector is None and spec.teacher_connector is None and shapes[0] != shapes[1]:
            raise ValueError(
                f'{spec.where}: the student has {shapes[0][0]} classes, the teacher {shapes[1][0]}: logits cannot be '
                'compared; compare features, or give the two heads the same classes'
            )
        if hasattr(link.loss, 'check_dataset'):  # it waits for the data
            return
        batch = len(next(iter((values['student'] or values['teacher']).values())))
        try:
            link(values['student'], values['teacher'], torch.arange(batch) % num_classes, torch.arange(batch))
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            what = ' against '.join(
                f'{side} {_named(getattr(spec, side))} {shape}'
                for side, shape in zip([s for s in ('student', 'teacher') if getattr(spec, s)], shapes, strict=False)
            )
            hint = '' if spec.connector else "; a connector can join them, e.g. dict(type='ConvModuleConnector')"
            text = ' '.join(str(error).split())
            raise ValueError(f'{spec.where}: {type(link.loss).__name__} cannot compare {what}: {text}{hint}') from error


def _tried(connector: nn.Module, feature, spec: LinkSpec, side: str):
    with torch.random.fork_rng(), untouched(connector, training=None):
        try:
            return connector(feature)
        except (ValueError, RuntimeError, TypeError) as error:
            text = ' '.join(str(error).split())
            raise ValueError(
                f'{spec.where}: the connector {type(connector).__name__} cannot take {side} tap '
                f'{_named(getattr(spec, side))} of shape {_shapes(feature)}: {text}'
            ) from error


def _shapes(value: Tensor | list[Tensor] | None) -> Shape | list[Shape] | None:
    if isinstance(value, list):
        return [_shapes(v) for v in value]
    if value is None or isinstance(value, tuple):  # several tensors of one connector: nothing follows from them
        return None
    return tuple(value.shape[1:])


def _named(taps: Taps) -> str:
    return ', '.join(map(str, taps)) if isinstance(taps, list) else str(taps)


def _only_logits(spec: LinkSpec) -> bool:
    return all(isinstance(taps, Tap) and taps.path == LOGITS for taps in (spec.student, spec.teacher))
