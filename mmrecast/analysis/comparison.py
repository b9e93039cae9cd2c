"""Measure the students of finished runs beside their teacher, and hold all that a table or a page says of them.

::

    WORK_DIR… ─ read_results ─▶ results ─ with_constructors, load_networks ─▶ networks ─ count, compare_latency ─┐
                                   └──────────────────────── table_rows ──▶ Comparison ◀─────────────────────────┘
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmrecast.analysis.complexity import convention_for, count
from mmrecast.analysis.latency import Latency, check_counts, compare_latency
from mmrecast.analysis.latency_settings import LatencySettings
from mmrecast.analysis.numbers import shape_text
from mmrecast.analysis.plan_table import plan_rows
from mmrecast.analysis.results import read_results, student_key
from mmrecast.analysis.rows import Measures, ResultRow, table_rows
from mmrecast.analysis.students import (
    TEACHER,
    Networks,
    load_networks,
    network_name,
    student_names,
    teacher_constructors,
    with_constructors,
)

ROUNDS = {1: 100, 64: 30}
"""dict[int, int]: The batch sizes at which latency is measured, and the rounds of each."""
UNSTEADY = 1.5  # the 90th percentile of a latency over its 10th


@dataclass(frozen=True)
class Comparison:
    """Everything a comparison says.

    Args:
        results (list[dict]): Of the runs.
        measures (dict[str, Measures]): By :func:`mmrecast.analysis.results.student_key`, and ``'teacher'``.
        plans (dict[str, list[dict]]): What each block became: by student, from
            :func:`mmrecast.analysis.plan_table.plan_rows`.
        notes (tuple[str, ...]): What could not be measured, and why.
    """

    results: list[dict]
    measures: dict[str, Measures] = field(default_factory=dict)
    plans: dict[str, list[dict]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def rows(self) -> list[ResultRow]:
        """list[ResultRow]: The lines, the teacher's first."""
        return table_rows(self.results, self.measures)

    @cached_property
    def student_names(self) -> dict[str, str]:
        """dict[str, str]: Of the distinct students."""
        return student_names([result for row in self.rows if not row.is_teacher for result in row.results])

    @property
    def teacher_name(self) -> str:
        """str: What people call the teacher, '' where nothing tells."""
        constructors = teacher_constructors(self.results)
        return network_name(constructors[0][0]) if constructors else ''


def compare(
    paths: Iterable[str | Path],
    rounds: dict[int, int] | None = None,
    device: str = 'cpu',
    threads: int | None = None,
    same_data: bool = False,
    say: Callable[[str], Any] = lambda text: None,
) -> Comparison:
    """Read finished runs and measure what they trained.

    Complexity and latency belong to a student, not to a run: each distinct one is measured once, in one process and
    in turns with all others and the teacher.

    Args:
        paths (Iterable[str | Path]): As for :func:`mmrecast.analysis.results.read_results`.
        rounds (dict[int, int], optional): Rounds of the latency measurement by batch size; empty for none. Defaults to
            ``ROUNDS``.
        device (str): Where latency is measured. Defaults to ``'cpu'``.
        threads (int, optional): PyTorch's threads while measuring. Defaults to None: as they are set.
        same_data (bool): Whether different ``data_root`` are known to hold the same images. Defaults to False.
        say (Callable): Is told what is being done. Defaults to nobody.

    Raises:
        FileNotFoundError: A path without a result.
        ValueError: Results that cannot stand in one table, or latency that cannot be measured as asked.
    """
    rounds = ROUNDS if rounds is None else rounds
    if rounds:  # what cannot be measured as asked shows before anything is read
        LatencySettings(device=device, threads=threads)
    for size, number in rounds.items():
        check_counts(batch_size=size, repeats=number)
    results = with_constructors(read_results(paths, same_data))
    shape = next((r['input_shape'] for r in results if r.get('input_shape')), None)
    if shape is None:
        return Comparison(results, notes=('Nothing is measured: no result tells the shape of its images.',))
    networks = load_networks(results, shape)
    say(f'{len(results)} runs of {len(networks.students)} different students')
    every = dict(teacher=networks.teacher) if networks.teacher is not None else {}
    every |= networks.students
    counts = {key: count(network, shape, convention_for(shape)) for key, network in every.items()}
    latencies: dict[str, dict[int, Latency]] = {key: {} for key in every}
    for size, number in rounds.items() if every else ():
        say(f'latency of {len(every)} networks in turns, batch of {size}, {shape_text(shape)}, {number} rounds')
        measured = compare_latency(every, shape, batch_size=size, repeats=number, device=device, threads=threads)
        for key, latency in measured.items():
            latencies[key][size] = latency
    measures = {key: Measures(counts[key], latencies[key]) for key in every}
    found = [*_notes(results, networks), *_unsteady(latencies)]
    return Comparison(results, measures, _plans(results, networks), tuple(found))


def _plans(results: Sequence[dict], networks: Networks) -> dict[str, list[dict]]:
    """Return what each block of each distinct student became, without counts where the networks are not there."""
    plans = {}
    for result in results:
        key = student_key(result)
        if result.get('plan') and key not in plans:
            plans[key] = plan_rows(result['plan'], networks.sources.get(key), networks.students.get(key))
    return plans


def _notes(results: Sequence[dict], networks: Networks) -> list[str]:
    """Return what could not be measured, and why."""
    notes = []
    for row in table_rows(results):
        if row.is_teacher:
            continue
        why = networks.absent.get(row.key) if row.key else next((r['absent'] for r in row.results), '')
        if why:
            notes.append(f'{row.label}: params, mults, acts and latency are not known: {why}.')
    if TEACHER in networks.absent:
        notes.append(f'teacher: params, mults, acts and latency are not known: {networks.absent[TEACHER]}.')
    return notes


def _unsteady(latencies: dict[str, dict[int, Latency]]) -> list[str]:
    """Return a warning for every batch size at which a network's time differed much from round to round."""
    worst: dict[int, float] = {}
    for size, latency in ((size, latency) for known in latencies.values() for size, latency in known.items()):
        worst[size] = max(worst.get(size, 0.0), latency.p90_ms / latency.p10_ms)
    return [
        f'Latency at batch {size} is unsteady: its 90th percentile is up to {factor:.1f} times its 10th. Measure again '
        'on an idle machine.'
        for size, factor in worst.items()
        if factor > UNSTEADY
    ]
