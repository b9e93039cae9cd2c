"""Tell which networks a comparison is about, by the ``student.pth`` beside each result, and build them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from mmrecast.analysis.activations import fill_statistics
from mmrecast.analysis.results import ONE_TEACHER, is_narrowed, student_key, teacher_top1
from mmrecast.models import build_network, check_constructor, untrained
from mmrecast.surgery.student_file import is_student, load_student
from mmrecast.surgery.widths import Widths
from mmrecast.utils.building import bounded_building
from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.mistakes import explain

TEACHER = 'teacher'
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


@dataclass(frozen=True)
class Networks:
    """The networks of a comparison, in eval mode, on the CPU.

    Args:
        students (dict[str, nn.Module]): By :func:`mmrecast.analysis.results.student_key`.
        sources (dict[str, nn.Module]): What each recast student was made of, untrained; keyed alike.
        teacher (nn.Module, optional): Trained where a run that trained it is among the results, else untrained.
        absent (dict[str, str]): Why a student (or ``'teacher'``) could not be built.
    """

    students: dict[str, nn.Module] = field(default_factory=dict)
    sources: dict[str, nn.Module] = field(default_factory=dict)
    teacher: nn.Module | None = None
    absent: dict[str, str] = field(default_factory=dict)


def with_constructors(results: Sequence[dict]) -> list[dict]:
    """Return the results, each with the ``constructor`` of its student and, where there is none, why (``absent``).

    The constructor is the config of the network before its blocks were recast or its layers narrowed, without weights.
    Of a narrowed student there is the ``width_share``, too: how many filters its convolutions have in all, compared
    with those of what was narrowed; None where that cannot be built.

    Args:
        results (Sequence[dict]): From :func:`mmrecast.analysis.results.read_results`.

    Raises:
        ValueError: The students were made of, or taught by, networks of different shapes: they have other teachers.
    """
    found = []
    for result in results:
        constructor, absent = None, ''
        try:
            content = load_file(_student_file(result))
            constructor = content.get('constructor') if is_student(content) else None
            if constructor is None:
                absent = f'{_student_file(result)} holds no constructor, so that the network cannot be built from it'
        except _UNUSABLE as error:
            absent = explain(error)
        found.append({**result, 'constructor': constructor, 'absent': absent})
    shares: dict[str, float | None] = {}
    for result in filter(is_narrowed, found):
        key = student_key(result)
        if key not in shares:
            shares[key] = _width_share(result)
        result['width_share'] = shares[key]
    _refuse_other_teachers(found)
    return found


def teachers_own(results: Sequence[dict]) -> list[dict]:
    """Return those of the results that are the teacher's own training.

    Such a run had no teacher, recast and narrowed nothing, ended with the accuracy that others measured for their
    teacher, and trained the network that the others' teacher is (or, where they do not tell, one that no other run
    trained). A network that trained together with another (``network`` in its result) is none.

    Args:
        results (Sequence[dict]): From :func:`with_constructors`.
    """
    taught = [r for r in results if teacher_top1(r) is not None]
    known = [_text(constructor) for constructor, _ in teacher_constructors(results)]
    trained = [student_key(r) for r in taught]
    own = []
    for result in results:
        built = result.get('constructor')
        made = result.get('plan') or is_narrowed(result) or result.get('network')
        if not built or made or result.get('teacher') or result['top1'] is None:
            continue
        as_good = any(abs(teacher_top1(r) - result['top1']) <= ONE_TEACHER for r in taught)
        same = _text(built) in known if known else student_key(result) not in trained
        if as_good and same:
            own.append(result)
    return own


def teacher_constructors(results: Sequence[dict]) -> list[tuple[dict, dict]]:
    """Return the configs of the teacher with the results that tell them.

    A run may have recorded its teacher's; else the source of a recast student stands for it, else that of a narrowed
    one.

    Args:
        results (Sequence[dict]): From :func:`with_constructors`.
    """
    recorded = [(r['teacher']['constructor'], r) for r in results if (r.get('teacher') or {}).get('constructor')]
    built = [r for r in results if r.get('constructor')]
    recast = [(r['constructor'], r) for r in built if r.get('plan')]
    return recorded or recast or [(r['constructor'], r) for r in built if is_narrowed(r)]


def load_networks(results: Sequence[dict], input_shape: Sequence[int]) -> Networks:
    """Build every distinct student of the results, what it was made of, and the teacher.

    Args:
        results (Sequence[dict]): From :func:`with_constructors`.
        input_shape (Sequence[int]): (C, H, W) of their images.
    """
    networks, own = Networks(), teachers_own(results)
    for result in results:
        key = student_key(result)
        if not key or key in networks.students or result in own:
            continue
        try:
            if result['absent']:
                raise ValueError(result['absent'])
            networks.students[key] = load_student(_student_file(result))
            if result.get('plan'):
                networks.sources[key] = _built(result['constructor'], result)
            networks.absent.pop(key, None)
        except _UNUSABLE as error:
            networks.students.pop(key, None)
            networks.absent.setdefault(key, explain(error))
    constructors = teacher_constructors(results)
    absent = 'no student.pth here tells what network it is; its own work directory would'
    teacher = None
    try:
        if own:
            teacher = load_student(_student_file(own[0]))
        elif constructors:
            teacher = fill_statistics(_built(*constructors[0]), input_shape)
    except _UNUSABLE as error:
        absent = explain(error)
    if teacher is None:
        networks.absent[TEACHER] = absent
    return Networks(networks.students, networks.sources, teacher, networks.absent)


def network_name(constructor: dict) -> str:
    """Return what people call a network, as far as its config tells: ``'ResNet-56'``, ``'WideResNet-28-10'``.

    Args:
        constructor (dict): Its config; of a classifier, the backbone counts.
    """
    if str(constructor['type']).split('.')[-1] == 'RecastNetwork':
        done = [word for key, word in (('widths', 'narrowed'), ('plan', 'recast')) if constructor.get(key) is not None]
        return ' '.join([*done, network_name(constructor['source'])])
    part = constructor.get('backbone') or constructor
    for given in ('name', 'model_name'):
        if isinstance(part.get(given), str):
            return part[given]
    numbers = (part.get(given) for given in ('depth', 'arch', 'widen_factor'))
    name = str(part['type']).split('.')[-1].removeprefix('Cifar')
    return '-'.join([name, *(str(n) for n in numbers if isinstance(n, int | float | str))])


def student_names(results: Sequence[dict]) -> dict[str, str]:
    """Return a short name for every distinct student that the results know, no two alike.

    Args:
        results (Sequence[dict]): With their ``plan``, and their ``constructor`` where it is known.

    Returns:
        dict[str, str]: By :func:`mmrecast.analysis.results.student_key`: ``'27 × ConvBlock'``, for a network that was
        not recast ``'ResNet-20'``, for a narrowed one ``'ResNet-20, 0.31x the width'``.
    """
    distinct: dict[str, dict] = {}
    for result in results:
        if student_key(result):
            distinct.setdefault(student_key(result), result)
    plain = {key: _name(result) for key, result in distinct.items()}
    counts = Counter(plain.values())
    names: dict[str, str] = {}
    for key, name in plain.items():
        if counts[name] > 1:
            name += _width(distinct[key])
        alike = sum(other == name or other.startswith(f'{name} no. ') for other in names.values())
        names[key] = f'{name} no. {alike + 1}' if alike else name
    return names


def _name(result: dict) -> str:
    if is_narrowed(result):
        share = result.get('width_share')
        how = 'narrowed' if share is None else f'{share:.3g}x the width'
        known = result.get('plan') or result.get('constructor')
        return f'{_name({**result, "widths": None})}, {how}' if known else how
    if not result.get('plan'):
        return network_name(result['constructor'])
    targets = Counter(entry['target']['type'] for entry in result['plan']['entries'] if entry['action'] == 'recast')
    return ' + '.join(f'{number} × {target}' for target, number in targets.items()) or 'nothing recast'


def _width(result: dict) -> str:
    """Return how wide the recast blocks are in all, compared with the source's; '' if as wide."""
    recast = [entry for entry in (result.get('plan') or {}).get('entries', ()) if entry['action'] == 'recast']
    if not recast or is_narrowed(result):  # the name of a narrowed one says how wide it is
        return ''
    before, after = (
        sum(widths) for widths in zip(*((e['out_shape'][0], e['out_channels']) for e in recast), strict=True)
    )
    return '' if after == before else f', {after / before:.3g}x the width'


def _width_share(result: dict) -> float | None:
    """Return how many filters a narrowed student's convolutions have over those of what was narrowed."""
    try:
        constructor = result['constructor']
        if result.get('plan'):
            constructor = dict(type='RecastNetwork', source=constructor, plan=result['plan'])
        network = _built(constructor, result)
        kept = Widths.from_dict(result['widths']).layers
        convolutions = {path: m.out_channels for path, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    except _UNUSABLE:
        return None
    if not convolutions:
        return None
    left = {path: sum(stop - start for start, stop in kept[path].outputs) for path in convolutions.keys() & kept.keys()}
    return sum((convolutions | left).values()) / sum(convolutions.values())


def _refuse_other_teachers(results: Sequence[dict]) -> None:
    (first, told), *others = teacher_constructors(results) or [(None, None)]
    for other, result in others:
        if _text(other) == _text(first):
            continue
        try:
            shapes = [
                {k: v.shape for k, v in _built(c, r).state_dict().items()} for c, r in ((first, told), (other, result))
            ]
        except _UNUSABLE:  # networks of classes that are not registered here: their notes will say so
            continue
        if shapes[0] != shapes[1]:
            raise ValueError(
                f'results with different teachers do not belong in one table: {told["path"]} has '
                f'{network_name(first)}, {result["path"]} has {network_name(other)}'
            )


def _built(constructor: dict, result: dict) -> nn.Module:
    """Build the network that a run's files describe."""
    check_constructor(constructor)
    file = _student_file(result)
    with bounded_building(f'a network of {file}', file.stat().st_size if file.is_file() else 0):
        return build_network(untrained(constructor)).eval()


def _student_file(result: dict) -> Path:
    return Path(result['path']).with_name('student.pth')


def _text(constructor: dict) -> str:
    return json.dumps(constructor, sort_keys=True)
