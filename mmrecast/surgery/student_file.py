"""``student.pth``: constructor, plan, widths and weights; all that is needed to have the student back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from mmrecast.models import build_network, check_constructor, network_config, untrained
from mmrecast.registry import BLOCKS, MODELS
from mmrecast.surgery.apply import replay
from mmrecast.surgery.plan import Plan
from mmrecast.surgery.widths import Widths, narrow
from mmrecast.utils.building import bounded_building
from mmrecast.utils.checkpoint import load_file, save_file
from mmrecast.version import __version__

FORMAT = 'mmrecast.student/1'


@dataclass(frozen=True)
class Origin:
    """Where a student comes from.

    Args:
        constructor (dict, optional): Config of the untrained network the plan applies to; None where that network was
            given as an object.
        plan (Plan, optional): How its blocks were recast; None where none was.
        widths (Widths, optional): How its layers, or those of the plan's student, were narrowed; None where none was.
            With neither plan nor widths it is a network as it was built.
    """

    constructor: dict | None = None
    plan: Plan | None = None
    widths: Widths | None = None

    def changes(self) -> dict:
        """Return plan and widths as plain data, None for what there is none of: what files keep."""
        return dict(
            plan=None if self.plan is None else self.plan.to_dict(),
            widths=None if self.widths is None else self.widths.to_dict(),
        )

    def as_constructor(self) -> dict | None:
        """Return the config of the untrained network with plan and widths; None where none is known."""
        if self.constructor is None or (self.plan is None and self.widths is None):
            return self.constructor
        changes = self.changes()
        if self.widths is None:
            changes.pop('widths')  # equal to the constructors of before there were any
        return dict(type='RecastNetwork', source=self.constructor, **changes)

    def narrowed(self, widths: Widths) -> 'Origin':
        """Return the origin of the network narrowed to ``widths`` (once more, if it was narrowed before)."""
        if not widths.layers:
            return self
        if self.widths is None:
            return replace(self, widths=widths)
        return Origin(self.as_constructor(), None, widths)


def save_student(path: str, student: nn.Module, origin: Origin, meta: dict | None = None) -> None:
    """Write ``student.pth``.

    Args:
        path (str): The file.
        student (nn.Module): The network.
        origin (Origin): Where it comes from.
        meta (dict, optional): Numbers and strings to keep with it.
    """
    weights = {name: value.detach().cpu().clone() for name, value in student.state_dict().items()}
    save_file(
        dict(
            format=FORMAT,
            **origin.changes(),
            constructor=None if origin.constructor is None else untrained(origin.constructor),
            weights=weights,
            meta=dict(meta or {}, mmrecast_version=__version__),
        ),
        path,
    )


def load_student(path: str, model: nn.Module | None = None) -> nn.Module:
    """Return the student of ``student.pth`` as a plain network in eval mode, on the CPU.

    Args:
        path (str): The file.
        model (nn.Module, optional): The untrained source network, changed in place, for a student whose file holds no
            constructor (its teacher was handed over as an object). Defaults to None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no student file, holds code, does not fit ``model``, or describes a network far larger than
            its weights.
    """
    return read_student(path, model)[0]


def build_source(source: Mapping | str | Path | nn.Module) -> tuple[nn.Module, dict | None]:
    """Return a network and the config it is built from again, None where it is given as an object.

    Args:
        source (Mapping | str | Path | nn.Module): As for ``models.build_network``, or the path of a student file
            (``*.pth``), whose network comes with its weights: a student can be recast or adjoined again.

    Raises:
        FileNotFoundError, ValueError, TypeError, KeyError: As ``build_network`` or `load_student`.
    """
    if isinstance(source, nn.Module):
        return source, None
    if is_weight_file(source):
        network, origin = read_student(str(source))
        return network, origin.as_constructor()
    return build_network(source), untrained(network_config(source))


def is_weight_file(source: object) -> bool:
    """Tell whether a network is given by the path of a file with weights, not by a config or a name."""
    return isinstance(source, str | Path) and Path(source).suffix in ('.pth', '.pt')


@MODELS.register_module(name='RecastNetwork')
def recast_network(source: dict, plan: dict | None = None, widths: dict | None = None) -> nn.Module:
    """Build the untrained student of a plan, of widths or of both: the constructor of a student that is recast again.

    Args:
        source (dict): Constructor of the network the plan applies to.
        plan (dict, optional): What `Plan.to_dict` gives. Defaults to None: no block is recast.
        widths (dict, optional): What `Widths.to_dict` gives. Defaults to None: no layer is narrowed.

    Raises:
        ValueError: ``source`` is no constructor, plan or widths do not fit it, or there is neither.
    """
    check_constructor(source)  # a dict, never a file's name
    if plan is None and widths is None:
        raise ValueError('a RecastNetwork needs a plan, widths or both: without them it is its source')
    network = build_network(source)
    _change(network, plan, widths)
    return network


def read_student(path: str, model: nn.Module | None = None) -> tuple[nn.Module, Origin]:
    """Return what `load_student` does, and where it comes from."""
    content = load_file(path)
    if not is_student(content):
        raise ValueError(f'{path} is not a student file; tools/export_student.py makes one of a checkpoint')
    absent = [name for name in ('plan', 'constructor', 'weights') if name not in content]
    if absent:
        raise ValueError(f'{path} is an incomplete student file: it lacks {", ".join(absent)}')
    if model is None:
        if content['constructor'] is None:
            raise ValueError(f'{path} holds no constructor (its teacher was an object): pass the untrained model=…')
        check_constructor(content['constructor'])
    with bounded_building(f'the student of {path}', Path(path).stat().st_size):
        if model is None:
            model = build_network(untrained(content['constructor']))
        plan, widths = _change(model, content['plan'], content.get('widths'))  # older files have no widths
    try:
        model.load_state_dict(content['weights'], strict=True)
    except Exception as error:  # as weights there may be anything
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'the weights of {path} do not fit: {reason[:300]}') from error
    return model.requires_grad_(True).eval(), Origin(content['constructor'], plan, widths)


def _change(network: nn.Module, plan: dict | None, widths: dict | None) -> tuple[Plan | None, Widths | None]:
    """Replay a plan that comes from a file on ``network``, narrow it to widths from there, and return both."""
    done = None if plan is None else Plan.from_dict(plan)
    kept = None if widths is None else Widths.from_dict(widths)
    if done is not None:
        for entry in done.entries:
            if entry.target is not None:
                check_target(entry.target)
        replay(network, done)
    if kept is not None:
        narrow(network, kept)
    return done, kept


def is_student(content: object) -> bool:
    """Tell whether what a file holds is a student."""
    return isinstance(content, dict) and content.get('format') == FORMAT


def check_target(target: dict) -> None:
    """Refuse a target that is more than a registered block and plain arguments (a dotted name would be imported).

    Raises:
        ValueError: It is not.
    """
    BLOCKS.import_from_location()
    name = target.get('type')
    if not isinstance(name, str) or name not in BLOCKS.module_dict:
        raise ValueError(f'the plan names a block {name!r} that is not registered: import its module first')
    check_constructor(target)
