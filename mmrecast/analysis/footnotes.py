"""Say what the numbers of a comparison were made with, and how they are to be read."""

from collections.abc import Iterable, Sequence
from typing import Any

from mmrecast.analysis.comparison import Comparison
from mmrecast.analysis.latency import Latency
from mmrecast.analysis.numbers import duration, shape_text
from mmrecast.analysis.rows import ResultRow

_LAYERS = {'cifar': 'convolutions', 'imagenet': 'convolutions and the classifier'}
_READERS = {
    'cifar': 'convolutions and poolings other than the global one',
    'imagenet': 'convolutions, poolings and the classifier',
}


def settings(comparison: Comparison, command: str | Sequence[str] | None = None) -> list[tuple[str, list[str]]]:
    """Return what the numbers were made with: a name and its values, each value once.

    Args:
        comparison (Comparison): What was compared.
        command (str | Sequence[str], optional): What was typed to get here.
    """
    results, rows = comparison.results, comparison.rows

    def joined(field: str) -> list[str]:
        facts = (r.get(field) or {} for r in results)
        return _distinct(', '.join(f'{k} {v}' for k, v in f.items() if v is not None) for f in facts)

    latencies = [latency for row in rows for latency in row.latencies.values()]
    shapes = (shape_text(r['input_shape']) for r in results if r.get('input_shape'))
    found = [
        ('command', _distinct([command] if isinstance(command, str) else command or ())),
        ('runs', _distinct(r.get('path') for r in results)),
        ('config', _distinct(r.get('config') for r in results)),
        ('data', _distinct(_data(r) for r in results)),
        ('data root', _distinct(r.get('data_root') for r in results)),
        ('input', _distinct(shapes)),
        ('seeds', [', '.join(_distinct(r['seed'] for r in results))]),
        ('budget', [_budget(row) for row in rows if row.images]),
        ('machine', joined('machine')),
        ('versions', joined('versions')),
        ('latency', _distinct(_conditions(latency) for latency in latencies)),
    ]
    return [(name, values) for name, values in found if values]


def notes(comparison: Comparison) -> list[str]:
    """Return what could not be measured, then how the numbers of the table are to be read."""
    rows = comparison.rows
    said = list(comparison.notes)
    if any(row.gap for row in rows):
        said.append('Gap to teacher: top-1 error minus the teacher’s, in points; a plus is more error.')
    if any(row.error and row.error.sd is not None for row in rows):
        said.append('± is the sample standard deviation over the seeds.')
    for convention in sorted({row.complexity.convention for row in rows if row.complexity}):
        said.append(
            f'Params and mults count the weights and multiplications of {_LAYERS[convention]} only, without '
            f'biases and BatchNorm; acts are the elements that {_READERS[convention]} read. All per image, '
            'counted by running the network.'
        )
    uncounted = sorted({name for row in rows if row.complexity for name in row.complexity.uncounted})
    if uncounted:
        said.append(f'Run but not counted: {", ".join(uncounted)}.')
    if any(row.latencies for row in rows):
        said.append('Latency is that of one pass of a batch; runs of the same student share one measurement.')
    if any(row.speed_ups for row in rows):
        said.append('Speed-up: the teacher’s time over the network’s, median of the rounds.')
    if any(stage.get('start_images') for r in comparison.results for stage in r['stages']):
        said.append('Images seen: those trained on, and those that closed-form starts read.')
    else:
        said.append('Images seen: those trained on.')
    if any(stage.get('relative_error') is not None for r in comparison.results for stage in r['stages']):
        said.append('Relative error of a stage: squared difference to the teacher’s output over its variance.')
    return said + [line for result in comparison.results for line in _taken_back(result)]


def _taken_back(result: dict) -> list[str]:
    """Return a line for each block that a run took back, its stage having made it worse than was wanted."""
    return [
        f'{result["method"]}, seed {result["seed"]}: {stage["block"]} {stage["regression"]}, '
        f'relative error {stage["relative_error_trained"]:.4g} after training.'
        for stage in result['stages']
        if stage.get('regression')
    ]


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(v) for v in values if v not in (None, '', [], {})))


def _data(result: dict) -> str:
    parts = [result['dataset']]
    if result['classes']:
        parts.append(f'{result["classes"]} classes')
    if result.get('train_images'):
        parts.append(f'{result["train_images"]:,} training images')
    if result['val_images']:
        parts.append(f'{result["val_images"]:,} test images')
    return ', '.join(parts)


def _budget(row: ResultRow) -> str:
    return f'{row.label}: {row.images.mean:,.0f} images, {duration(row.seconds.mean)} of training per run'


def _conditions(latency: Latency) -> str:
    plural = '' if latency.threads == 1 else 's'
    return (
        f'batch of {latency.batch_size}, {latency.device}, {latency.threads} thread{plural}, median of '
        f'{latency.repeats} rounds in which all networks take turns'
    )
