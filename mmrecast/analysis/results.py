"""Read the results that runs have left in their work directories, and see whether they may stand in one table."""

import json
from collections.abc import Callable, Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from mmrecast.utils.checkpoint import read_json
from mmrecast.utils.shapes import check_shape

REQUIRED = ('method', 'seed', 'dataset', 'classes', 'stages', 'images', 'seconds', 'top1', 'val_images')
ONE_TEACHER = 0.05  # points of top-1 by which one teacher may differ between two measurements
EQUAL = {
    'dataset': 'data sets',
    'classes': 'numbers of classes',
    'val_images': 'numbers of test images',
    'input_shape': 'input shapes',
}


def read_results(paths: Iterable[str | Path], same_data: bool = False) -> list[dict]:
    """Read result files that may be compared with each other.

    Args:
        paths (Iterable[str | Path]): Work directories, ``result.json`` files themselves, or directories of work
            directories.
        same_data (bool): Whether different ``data_root`` are known to hold the same images. Defaults to False.

    Returns:
        list[dict]: The results, each with its ``path``.

    Raises:
        FileNotFoundError: A path that is not there, or a directory without a ``result.json``.
        ValueError: A file that is not JSON, lacks fields or is given twice, a run that has not ended, or results
            that cannot stand in one table.
    """
    results: list[dict] = []
    for path in paths:
        for file in _result_files(Path(path)):
            if any(file.resolve() == Path(r['path']).resolve() for r in results):
                raise ValueError(f'{file} is given twice: name each work directory once')
            results.append(_read(file))
    if not results:
        raise ValueError('no results to compare: give one work directory or more')
    check_comparable(results, same_data)
    return results


def check_comparable(results: Sequence[dict], same_data: bool = False) -> None:
    """Refuse unfinished runs, results of different data, inputs, test images or teachers, and one seed twice.

    Args:
        results (Sequence[dict]): What ``result.json`` files hold.
        same_data (bool): Whether different ``data_root`` are known to hold the same images. Defaults to False.

    Raises:
        ValueError: Which run has not ended, or which two results differ, and in what.
    """
    for result in results:
        if not result.get('complete', True):
            raise ValueError(
                f'{_name(result)} is of a run that has not ended ({len(result["stages"])} stages are done): '
                'finish it with --resume, or leave it out'
            )
    for field, words in EQUAL.items():
        known = [r for r in results if field in REQUIRED or r.get(field)]
        _refuse_different(known, field, f'results on different {words} do not belong in one table', str)
    if not same_data:
        known = [r for r in results if r.get('data_root')]
        what = 'results on data from different folders do not belong in one table unless --same-data says that they do'
        _refuse_different(known, 'data_root', what, _folder)
    _refuse_twice(results)
    _refuse_other_teachers(results)


def images_seen(result: dict) -> int:
    """Return the images a run trained on and those its closed-form starts read."""
    return result['images'] + sum(stage.get('start_images') or 0 for stage in result['stages'])


def student_key(result: dict) -> str:
    """Return what tells one student from another: its plan, else the network it was built as, and its widths.

    Where nothing of it is known, that is ''.
    """
    made_of = result.get('constructor')
    if result.get('plan'):
        fields = ('path', 'action', 'target', 'in_channels', 'out_channels')
        made_of = [[entry.get(field) for field in fields] for entry in result['plan']['entries']]
    if is_narrowed(result):
        made_of = [made_of, result['widths']['layers']]
    return json.dumps(made_of, sort_keys=True) if made_of else ''


def is_narrowed(result: dict) -> bool:
    """Tell whether a student has fewer channels than the network it was made of."""
    return bool((result.get('widths') or {}).get('layers'))


def line_key(result: dict) -> tuple:
    """Return what runs must share to be averaged: method, student, config and images.

    The last folder and the name stand for the config, however its path was written.
    """
    config = '/'.join(Path(result.get('config') or '').parts[-2:])
    return result['method'], student_key(result), config, images_seen(result)


def teacher_top1(result: dict) -> float | None:
    """Return the top-1 accuracy (%) that a run has measured for its teacher, None where there is none."""
    return (result.get('teacher') or {}).get('top1')


def _result_files(path: Path) -> list[Path]:
    """Return the result files that a path stands for."""
    if not path.is_dir():
        if path.is_file():
            return [path]
        raise FileNotFoundError(f'no result at {path}; it is written when a run ends')
    if (path / 'result.json').is_file():
        return [path / 'result.json']
    inside = sorted(path.glob('*/result.json'))
    if not inside:
        deeper = sorted({str(file.parent.parent) for file in path.glob('*/*/result.json')})[:3]
        hint = f'did you mean {", ".join(deeper)}?' if deeper else 'it is written when a run ends'
        raise FileNotFoundError(f'no result at {path / "result.json"} or in a folder of {path}; {hint}')
    return inside


def _read(file: Path) -> dict:
    result = read_json(file)
    if not isinstance(result, dict):
        raise ValueError(f'{file} is not the result of a run: it holds no object')
    missing = [field for field in REQUIRED if field not in result]
    if missing:
        raise ValueError(f'{file} is not the result of a run: it lacks {", ".join(missing)}')
    teacher, plan = result.get('teacher') or {}, result.get('plan') or dict(entries=[])
    widths = result.get('widths') or dict(layers={})
    for field, good in (
        ('teacher', isinstance(teacher, dict)),
        ('plan', isinstance(plan, dict) and _are_objects(plan.get('entries'))),
        ('widths', isinstance(widths, dict) and isinstance(widths.get('layers'), dict)),
        ('stages', _are_objects(result['stages'])),
        *((name, isinstance(result[name], str)) for name in ('method', 'dataset')),
        *((name, isinstance(result.get(name), str | None)) for name in ('config', 'data_root', 'name')),
        *((name, isinstance(result[name], int | None)) for name in ('seed', 'classes', 'val_images')),
        ('start_images', all(isinstance(s.get('start_images'), int | None) for s in _objects(result['stages']))),
    ):
        if not good:
            raise ValueError(f'{file} is not the result of a run: {field} is not what a run writes')
    if result.get('input_shape') is not None:
        try:
            check_shape(result['input_shape'])
        except ValueError as error:
            raise ValueError(f'{file} is not the result of a run: {error}') from error
    numbers = {field: result[field] for field in ('images', 'seconds', 'top1')}
    numbers["the teacher's top1"] = teacher.get('top1')
    for field, value in numbers.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and -inf < value < inf
        if not number and not ('top1' in field and value is None):
            raise ValueError(f'{file} is not the result of a run: {field} is {value!r}, not a number')
    return {**result, 'path': str(file)}


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and len(_objects(value)) == len(value)


def _objects(value: object) -> list[dict]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _refuse_different(results: Sequence[dict], field: str, what: str, as_compared: Callable[[Any], Any]) -> None:
    for other in results[1:]:
        first = results[0]
        if as_compared(other[field]) != as_compared(first[field]):
            raise ValueError(f'{what}: {_name(first)} has {first[field]!r}, {_name(other)} has {other[field]!r}')


def _refuse_twice(results: Sequence[dict]) -> None:
    seen: dict[tuple, dict] = {}
    for result in results:
        key = (*line_key(result), result['seed'])
        if key in seen:
            raise ValueError(
                f'seed {result["seed"]} of {result["method"]!r} is there twice: {_name(seen[key])} and {_name(result)}'
            )
        seen[key] = result


def _refuse_other_teachers(results: Sequence[dict]) -> None:
    teachers: dict[int, dict] = {}
    for result in results:
        top1 = teacher_top1(result)
        if top1 is None:
            continue
        other = teachers.setdefault(result['seed'], result)
        if abs(teacher_top1(other) - top1) > ONE_TEACHER:
            raise ValueError(
                f'results with different teachers do not belong in one table: {_name(other)} was taught '
                f'by one with {teacher_top1(other):.2f} % top-1, {_name(result)} by one with {top1:.2f} %'
            )


def _folder(data_root: str) -> Path:
    return Path(data_root).expanduser().resolve()


def _name(result: dict) -> str:
    return result.get('path') or f'{result["method"]} (seed {result["seed"]})'
