"""Read the raw results in docs/results: files of trainings and of latencies.

A file of trainings is ``{"data": "NAME: what it is", "pair": …, "runs": {name: result.json plus "command"}}``, as
tools/run_benchmark.py writes it but for ``data``; the run ``teacher`` is that of the teacher itself. Where there is
something to say it has ``title`` (its heading; else the pair, else the file's name), ``teacher``, ``note`` and
``tuning`` (sentences). Any other entry with a ``top1`` is a run that is told of in a line. A list of runs is a
script's of tools/benchmarks and is passed over.

A file of latencies, latency_NAME.json, is what tools/analysis_tools/benchmark_latency.py wrote.
"""

from pathlib import Path

from mmrecast.analysis.results import check_comparable
from mmrecast.utils.checkpoint import read_json

_NEEDED = ('method', 'seed', 'dataset', 'classes', 'stages', 'images', 'seconds', 'top1', 'val_images', 'machine')


def read_trainings(folder: str | Path) -> dict[str, dict]:
    """Return the files of trainings by their stem.

    Raises:
        ValueError: A file cannot be read, or its runs lack a field or cannot stand in one table.
    """
    found = {}
    for path, content in _files(folder, '*.json'):
        if not isinstance(content, dict) or not isinstance(content.get('runs'), dict):
            continue
        for name, run in content['runs'].items():
            missing = [field for field in _NEEDED if field not in run]
            if missing:
                raise ValueError(f'{path}: run {name!r} lacks {", ".join(missing)}')
        if 'data' not in content:
            raise ValueError(f'{path} does not say on what data its runs were: it has no "data"')
        try:
            check_comparable(list(content['runs'].values()))
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        found[path.stem] = content
    return found


def read_latencies(folder: str | Path) -> dict[str, dict]:
    """Return the files of latencies by their stem.

    Raises:
        ValueError: A file cannot be read or is not of benchmark_latency.py.
    """
    found = {}
    for path, content in _files(folder, 'latency_*.json'):
        needed = ('command', 'conditions', 'settings', 'groups')
        missing = [name for name in needed if not isinstance(content, dict) or name not in content]
        if missing:
            raise ValueError(f'{path} is not of benchmark_latency.py: it lacks {", ".join(missing)}')
        found[path.stem] = content
    return found


def _files(folder: str | Path, pattern: str) -> list[tuple[Path, object]]:
    return [(path, read_json(path)) for path in sorted(Path(folder).glob(pattern))]
