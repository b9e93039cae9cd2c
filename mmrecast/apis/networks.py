"""The networks of a config, of a student file or of a library's name, built without any weights but a student file's.

::

    CONFIG ───────────▶ network_configs ──▶ networks_of ──▶ teacher, student, plan
    torchvision:NAME ──────────┘                 │
    student.pth ─────────────────────────────────┘
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mmrecast.models import build_network, network_config, untrained
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.chain import Shape
from mmrecast.surgery.plan import Plan, make_plan
from mmrecast.surgery.student_file import build_source, is_weight_file, read_student
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules

IMAGE = (3, 224, 224)


@dataclass(frozen=True)
class NetworkConfigs:
    """What a config says of its networks.

    Args:
        name (str): The config file's stem, or the network's name.
        input_shape (tuple[int]): (C, H, W) that reaches the networks.
        teacher (dict | str, optional): What the teacher is built from; the source of the recipe where the config has
            no teacher of its own.
        student (dict | str, optional): What a student without a recipe is built from.
        source (dict | str, optional): What the recipe applies to.
        recipe (list[dict], optional): What makes the student of ``source``.
    """

    name: str
    input_shape: Shape
    teacher: dict | str | None = None
    student: dict | str | None = None
    source: dict | str | None = None
    recipe: Sequence[dict] | None = None


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
    """

    name: str
    input_shape: Shape
    teacher: nn.Module | None
    student: nn.Module | None
    plan: Plan | None
    teacher_constructor: dict | None = None
    student_constructor: dict | None = None
    student_plan: Plan | None = None


def networks_of(source: str | Path, input_shape: Sequence[int] | None = None) -> Networks:
    """Build the networks that ``source`` names.

    Args:
        source (str | Path): A config: of a recasting (teacher and student of its recipe), of a distillation (teacher
            and student; the recipe's source stands for a missing teacher) or of one network (a teacher alone).
            Or a ``student.pth`` (with the untrained network it was made of as its teacher), the name of one of
            mmpretrain's models, or ``torchvision:NAME`` or ``timm:NAME``.
        input_shape (tuple[int], optional): (C, H, W). Defaults to what the config or the plan says, else 3x224x224.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The source is unknown, unreadable or names no network, or its recipe cannot be carried out.
        KeyError: A type is not registered.
    """
    if input_shape is not None:
        input_shape = _checked(input_shape)
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
    if configs.recipe is None:
        student, constructor = _built(constructors['student']), constructors['student']
        return Networks(configs.name, shape, teacher, student, None, constructors['teacher'], constructor)
    constructor = constructors['source']
    same = constructor == constructors['teacher']
    student = copy.deepcopy(teacher) if same else _built(constructor)
    plan = make_plan(student, configs.recipe, shape)
    student = check_plan(student, plan).eval()
    fitting = plan if same else None
    return Networks(configs.name, shape, teacher, student, fitting, constructors['teacher'], constructor, plan)


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
    maker = student if isinstance(student, Mapping) and 'recipe' in student else model
    recipe, teacher = maker.get('recipe'), model.get('teacher')
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    shape = _checked(maker.get('input_shape') or preprocessor.get('input_shape') or IMAGE)
    name = Path(text).stem
    if recipe is not None:
        origin = maker.get('source') or teacher
        if origin is None:
            raise ValueError(f'{text} has a recipe but no network that it applies to (teacher=… or source=…)')
        return NetworkConfigs(name, shape, teacher or origin, None, origin, recipe)
    if student is not None or teacher is not None:
        return NetworkConfigs(name, shape, teacher, student)
    alone = text if 'type' in model else cfg.get('teacher')
    if alone is None:
        raise ValueError(f'{text} has neither a model nor a teacher')
    return NetworkConfigs(name, shape, alone)


def _of_file(path: str, input_shape: Shape | None) -> Networks:
    student, origin = read_student(path)
    constructor, plan = origin.constructor, origin.plan
    shape = input_shape or (plan.input_shape if plan else IMAGE)
    if plan is None:  # trained as it was built: there is nothing to compare it with
        return Networks(_file_name(path), shape, None, student, None, None, constructor)
    return Networks(_file_name(path), shape, _built(constructor), student, plan, constructor, constructor, plan)


def _file_name(path: str) -> str:
    """Return the stem; of a run's ``student.pth`` the name of its folder tells more."""
    stem, folder = Path(path).stem, Path(path).resolve().parent.name
    return folder if stem == 'student' and folder else stem


def _built(constructor: dict | None) -> nn.Module | None:
    return None if constructor is None else build_network(constructor).eval()


def _checked(shape: Sequence[int]) -> Shape:
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in shape)
    if len(shape) != 3 or not whole:
        raise ValueError(f'an input shape is three numbers (C, H, W) of at least 1, got {tuple(shape)}')
    return tuple(shape)
