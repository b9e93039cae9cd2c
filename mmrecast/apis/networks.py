"""The networks of a config, of a student file or of a library's name, built without any weights but a student file's.

::

    CONFIG ───────────▶ network_configs ──▶ networks_of ──▶ teacher, student, plan, widths
    torchvision:NAME ──────────┘                 │
    student.pth ─────────────────────────────────┘
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mmrecast.algorithms.narrow_student import narrow_by
from mmrecast.models import build_network, network_config, untrained
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.chain import Shape
from mmrecast.surgery.plan import Plan, make_plan
from mmrecast.surgery.student_file import build_source, is_weight_file, read_student
from mmrecast.surgery.widths import Widths
from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules
from mmrecast.utils.shapes import check_shape

IMAGE = (3, 224, 224)
SEARCHED = 'DifferentiableAdjoinedNetwork'
NARROWED = {'NarrowStudent': 'source', 'AdjoinedNetwork': 'network', SEARCHED: 'network'}
"""dict[str, str]: Types that narrow a network, with the argument that names it."""
NARROWING = ('alpha', 'above', 'rule', 'exclude')


@dataclass(frozen=True)
class NetworkConfigs:
    """What a config says of its networks.

    Args:
        name (str): The config file's stem, or the network's name.
        input_shape (tuple[int]): (C, H, W) that reaches the networks.
        teacher (dict | str, optional): What the teacher is built from; ``source`` where the config has no teacher of
            its own.
        student (dict | str, optional): What a student that is not made of another network is built from.
        source (dict | str, optional): What recipe or narrowing applies to.
        recipe (list[dict], optional): What makes the student of ``source`` by recasting.
        narrowing (dict, optional): What makes the student of ``source`` by narrowing: arguments of
            :func:`mmrecast.algorithms.narrow_student.narrow_by`.
        divisors (list[int], optional): Among which a search chooses for every width group of ``source``; the student
            is not known before it.
    """

    name: str
    input_shape: Shape
    teacher: dict | str | None = None
    student: dict | str | None = None
    source: dict | str | None = None
    recipe: Sequence[dict] | None = None
    narrowing: dict | None = None
    divisors: Sequence[int] | None = None


@dataclass(frozen=True)
class Networks:
    """Teacher and student, in eval mode, on the CPU.

    Args:
        name (str): The config file's or student file's stem, or the network's name.
        input_shape (tuple[int]): (C, H, W) of an image.
        teacher (nn.Module, optional): The network to compare with. Untrained.
        student (nn.Module, optional): What became of it. Untrained, unless it comes from a student file.
        plan (Plan, optional): What makes the student of the teacher; None where nothing does.
        teacher_constructor (dict, optional): Config of the teacher; equal ones build equal networks.
        student_constructor (dict, optional): Config of the network ``student_plan`` applies to, or of the student.
        student_plan (Plan, optional): What makes the student of ``student_constructor``.
        student_widths (Widths, optional): What is left of its layers then; None where all of it.
    """

    name: str
    input_shape: Shape
    teacher: nn.Module | None
    student: nn.Module | None
    plan: Plan | None
    teacher_constructor: dict | None = None
    student_constructor: dict | None = None
    student_plan: Plan | None = None
    student_widths: Widths | None = None

    @property
    def same_blocks(self) -> bool:
        """bool: Whether student and teacher have the same blocks, recast or narrowed."""
        made = self.student_plan is not None or self.student_widths is not None
        return made and self.teacher_constructor == self.student_constructor


def networks_of(source: str | Path, input_shape: Sequence[int] | None = None) -> Networks:
    """Build the networks that ``source`` names.

    Args:
        source (str | Path): A config: of a recasting (teacher and student of its recipe), of an adjoined network (the
            full network as the teacher, the small one; before a search the full one alone), of a distillation (teacher
            and student; what the student is made of stands for a missing teacher) or of one network (a teacher alone).
            Or a ``student.pth`` (with the untrained network it was made of as its teacher), the name of one of
            mmpretrain's models, or ``torchvision:NAME`` or ``timm:NAME``.
        input_shape (tuple[int], optional): (C, H, W). Defaults to what the config or the file says, else 3x224x224.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The source is unknown, unreadable or names no network, or its recipe or narrowing cannot be
            carried out.
        KeyError: A type is not registered.
    """
    if input_shape is not None:
        input_shape = check_shape(input_shape)
    register_all_modules()
    if is_weight_file(source):
        return _of_file(str(source), input_shape)
    configs = network_configs(source)
    shape = input_shape or configs.input_shape
    constructors = {
        role: constructor_of(config)
        for role, config in (('teacher', configs.teacher), ('student', configs.student), ('source', configs.source))
    }
    teacher = _built(constructors['teacher'])
    if configs.recipe is None and (configs.narrowing is None or configs.divisors is not None):
        student, constructor = _built(constructors['student']), constructors['student']
        return Networks(configs.name, shape, teacher, student, None, constructors['teacher'], constructor)
    constructor = constructors['source']
    same = constructor == constructors['teacher']
    student = copy.deepcopy(teacher) if same else _built(constructor)
    plan, widths = None, None
    if configs.recipe is not None:
        plan = make_plan(student, configs.recipe, shape)
        student = check_plan(student, plan).eval()
    else:
        widths = narrow_by(student, shape, **configs.narrowing)
    fitting = plan if same else None
    return Networks(configs.name, shape, teacher, student, fitting, constructors['teacher'], constructor, plan, widths)


def constructor_of(config: Mapping | str | None) -> dict | None:
    """Return the config of the untrained network that a config, a name or a student file stands for.

    Raises:
        FileNotFoundError, ValueError, TypeError: As ``models.network_config``.
    """
    if config is None:
        return None
    return build_source(config)[1] if is_weight_file(config) else untrained(network_config(config))


def network_configs(source: str | Path, options: Mapping[str, object] | None = None) -> NetworkConfigs:
    """Read what a config or a name says of networks; nothing is built.

    Args:
        source (str | Path): A config, the name of one of mmpretrain's models, ``torchvision:NAME`` or ``timm:NAME``.
        options (Mapping, optional): Dotted keys of the config and the values to put there. Defaults to none.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: The config cannot be read or holds no network, or a name is given with options.
    """
    text = str(source)
    if not text.endswith('.py'):
        if options:
            raise ValueError(f'--cfg-options needs a config file, not the name {text!r}')
        return NetworkConfigs(text.partition(':')[2] or text, IMAGE, text)
    cfg = read_config(source, options)
    model = cfg.get('model') or {}
    student = model.get('student')
    makes = isinstance(student, Mapping) and ('recipe' in student or _type(student) == 'NarrowStudent')
    maker = student if makes else model
    recipe, teacher = maker.get('recipe'), model.get('teacher')
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    shape = check_shape(maker.get('input_shape') or preprocessor.get('input_shape') or IMAGE)
    name = Path(text).stem
    if recipe is not None:
        origin = maker.get('source') or teacher
        if origin is None:
            raise ValueError(f'{text} has a recipe but no network that it applies to (teacher=… or source=…)')
        return NetworkConfigs(name, shape, teacher or origin, None, origin, recipe)
    if _type(maker) in NARROWED:
        argument = NARROWED[_type(maker)]
        origin = maker.get(argument)
        if origin is None:
            raise ValueError(f'{text}: {_type(maker)} needs {argument}=…, the network that it narrows')
        narrowing = {key: maker[key] for key in NARROWING if key in maker}
        divisors = maker.get('divisors', (1, 2, 4)) if _type(maker) == SEARCHED else None
        return NetworkConfigs(name, shape, teacher or origin, None, origin, narrowing=narrowing, divisors=divisors)
    if student is not None or teacher is not None:
        return NetworkConfigs(name, shape, teacher, student)
    alone = text if 'type' in model else cfg.get('teacher')
    if alone is None:
        raise ValueError(f'{text} has neither a model nor a teacher')
    return NetworkConfigs(name, shape, alone)


def _of_file(path: str, input_shape: Shape | None) -> Networks:
    student, origin = read_student(path)
    constructor, plan, widths = origin.constructor, origin.plan, origin.widths
    made_by = plan or widths
    shape = input_shape or (made_by.input_shape if made_by else _noted_shape(path))
    if made_by is None:  # trained as it was built: there is nothing to compare it with
        return Networks(_file_name(path), shape, None, student, None, None, constructor)
    teacher = _built(constructor)
    return Networks(_file_name(path), shape, teacher, student, plan, constructor, constructor, plan, widths)


def _type(config: Mapping) -> str:
    """Return the type that a config names, without a scope."""
    named = config.get('type')
    return named.rpartition('.')[2] if isinstance(named, str) else getattr(named, '__name__', '')


def _noted_shape(path: str) -> Shape:
    """Return the input shape that a run noted in its student file, else that of ImageNet."""
    meta = load_file(path).get('meta')
    noted = meta.get('input_shape') if isinstance(meta, Mapping) else None
    return check_shape(noted) if isinstance(noted, list | tuple) else IMAGE


def _file_name(path: str) -> str:
    """Return the stem; of a run's ``student.pth`` the name of its folder tells more, of its further networks both."""
    stem, folder = Path(path).stem, Path(path).resolve().parent
    if stem != 'student' or not folder.name:
        return stem
    further = (folder.parent / 'student.pth').is_file()  # beside WORK_DIR/full there is WORK_DIR/student.pth
    return f'{folder.parent.name}/{folder.name}' if further else folder.name


def _built(constructor: dict | None) -> nn.Module | None:
    return None if constructor is None else build_network(constructor).eval()
