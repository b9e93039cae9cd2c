"""Write a comparison as Markdown, CSV, JSON and one page."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrecast.analysis.comparison import Comparison
from mmrecast.analysis.comparison_tables import line_data, run_data, table_csv, table_markdown
from mmrecast.analysis.footnotes import notes, settings
from mmrecast.analysis.plots import check_matplotlib
from mmrecast.analysis.report import write_report
from mmrecast.utils.checkpoint import write_json, write_text


def check_folder(out: str | Path) -> Path:
    """Refuse what no comparison can be written to, before anything is measured.

    Raises:
        ValueError: ``out``, or a folder it would lie in, is a file.
        ImportError: matplotlib is not installed.
    """
    out = Path(out)
    blocking = next((path for path in (out, *out.parents) if path.exists() and not path.is_dir()), None)
    if blocking is not None:
        raise ValueError(f'the comparison is written to a folder, but {blocking} is a file: choose another --out')
    check_matplotlib()
    return out


def write_comparison(comparison: Comparison, out: str | Path, title: str, command: str | None = None) -> list[Path]:
    """Write ``comparison.md``, ``comparison.csv``, ``comparison.json`` and ``index.html``.

    Args:
        comparison (Comparison): From :func:`mmrecast.analysis.comparison.compare`.
        out (str | Path): The folder; made where there is none.
        title (str): Heading of the page and of the Markdown file.
        command (str, optional): What was typed to get here.

    Returns:
        list[Path]: The files written.

    Raises:
        ValueError, ImportError: As :func:`check_folder`.
    """
    out = check_folder(out)
    names = ('comparison.md', 'comparison.csv', 'comparison.json', 'index.html')
    markdown, table, data, page = (out / name for name in names)
    write_text(comparison_markdown(comparison, title, command), markdown)
    write_text(table_csv(comparison.rows), table)
    write_json(comparison_data(comparison, title, command), data)
    write_report(page, title, comparison, command=command)
    return [markdown, table, data, page]


def comparison_markdown(comparison: Comparison, title: str, command: str | None = None) -> str:
    """Return the table with what its numbers were made with and how to read them."""
    made_with = [
        f'- {name}: {"; ".join(_one_line(v) for v in values)}' for name, values in settings(comparison, command)
    ]
    read = [f'- {_one_line(note)}' for note in notes(comparison)]
    return '\n'.join([f'# {_one_line(title)}', '', table_markdown(comparison.rows), '', *made_with, '', *read, ''])


def comparison_data(comparison: Comparison, title: str, command: str | None = None) -> dict[str, Any]:
    """Return the comparison as plain data with unrounded numbers."""
    names, rows = comparison.student_names, comparison.rows
    shared = {name: comparison.results[0].get(name) for name in ('dataset', 'classes', 'val_images', 'input_shape')}
    return dict(
        title=title, command=command, data=shared, teacher=comparison.teacher_name,
        lines=[line_data(row, names) for row in rows],
        runs=[run_data(result, row.label) for row in rows for result in row.results],
        latency=_conditions(rows),
        plans=[dict(student=names.get(key, ''), blocks=blocks) for key, blocks in comparison.plans.items()],
        settings=dict(settings(comparison)), notes=notes(comparison),
    )  # fmt: skip


def _conditions(rows: Sequence) -> dict[int, dict[str, Any]]:
    """Return how latency was measured, by batch size."""
    found = {}
    for size, latency in ((size, latency) for row in rows for size, latency in row.latencies.items()):
        kept = dataclasses.asdict(latency)
        found.setdefault(size, {name: kept[name] for name in ('device', 'threads', 'repeats', 'dtype')})
    return found


def _one_line(text: str) -> str:
    return ' '.join(str(text).split())
