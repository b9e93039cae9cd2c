"""Draw how a search for widths went: expected widths over its epochs, and the probabilities at its end."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrecast.analysis.plots import check_matplotlib
from mmrecast.utils.checkpoint import read_json

WIDTHS = 'widths.json'
COLOURS = 'Blues'  # the wider, the darker
TICKS = 8  # epochs that are written below the map
_FORM = {'widths': list, 'divisors': list, 'probabilities': list, 'layers': list}


def read_widths(work_dir: str | Path) -> list[dict]:
    """Read what a :class:`mmrecast.engine.WidthHook` kept.

    Args:
        work_dir (str | Path): Of the run.

    Returns:
        list[dict]: ``dict(stage, epoch, iter, groups)`` in the order of training, with values such as ``tau`` beside.

    Raises:
        FileNotFoundError: There is no such folder, or no such file in it.
        ValueError: The file is damaged or holds no record.
    """
    path = Path(work_dir, WIDTHS)
    if not path.parent.is_dir():
        raise FileNotFoundError(f'there is no work dir {work_dir}')
    if not path.is_file():
        raise FileNotFoundError(f"{work_dir} holds no {WIDTHS}: train with custom_hooks=[dict(type='WidthHook')]")
    try:
        records = read_json(path)
        for record in records:
            for name in ('stage', 'epoch', 'iter'):
                int(record[name])
            for group in record['groups'].values():
                if any(not isinstance(group[key], form) for key, form in _FORM.items()):
                    raise TypeError('a group is dict(widths=[…], divisors=[…], probabilities=[…], layers=[…])')
                if not len(group['widths']) == len(group['divisors']) == len(group['probabilities']) > 0:
                    raise ValueError('a group has as many widths as divisors and probabilities')
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        what = f'{error} is missing' if isinstance(error, KeyError) else error
        raise ValueError(f'{path} is no record of widths ({what})') from error
    if not records or not records[-1]['groups']:
        raise ValueError(f'{path} is empty: the search had not begun')
    return records


def full_width(group: dict) -> float:
    """Return a group's number of channels before narrowing."""
    return max(width * divisor for width, divisor in zip(group['widths'], group['divisors'], strict=True))


def chosen(group: dict) -> int:
    """Return the position of a group's most probable width, the first of equals."""
    return group['probabilities'].index(max(group['probabilities']))


def expected_shares(records: Sequence[dict]) -> list[list[float]]:
    """Return, per group of the last record and per record, the expected width over the full one (0 to 1).

    A group that a record does not have is NaN there.
    """
    shares = []
    for name in records[-1]['groups']:
        row = [record['groups'].get(name) for record in records]
        shares.append([float('nan') if group is None else _expected(group) / full_width(group) for group in row])
    return shares


def _expected(group: dict) -> float:
    return sum(width * p for width, p in zip(group['widths'], group['probabilities'], strict=True))


def summary(records: Sequence[dict]) -> str:
    """Return in one line how many groups chose which divisor at the end."""
    groups = records[-1]['groups'].values()
    counts = Counter(group['divisors'][chosen(group)] for group in groups)
    parts = ', '.join(f'{count} by {divisor:g}' for divisor, count in sorted(counts.items()))
    return f'{len(groups)} groups of layers after epoch {records[-1]["epoch"]}, divided: {parts}'


def draw_widths(records: Sequence[dict], out: str | Path) -> None:
    """Draw a row per group: its expected width over the epochs, and the probabilities of its widths at the end.

    Args:
        records (Sequence[dict]): From `read_widths`.
        out (str | Path): The figure; its ending says the format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    groups, out = records[-1]['groups'], Path(out)
    style = {'svg.fonttype': 'none', 'svg.hashsalt': 'mmrecast', 'text.parse_math': False, 'font.size': 8}
    with rc_context(style):
        figure = Figure(figsize=(9.5, 0.21 * max(len(groups), 4) + 1.7), layout='constrained')
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
        _draw_history(figure, left, records)
        _draw_end(figure, right, groups)
        left.set_yticks(range(len(groups)), [_label(name, group) for name, group in groups.items()])
        left.set_ylim(len(groups) - 0.5, -0.5)
        for axes in (left, right):
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        undated = {'.svg': {'Date': None}, '.pdf': {'CreationDate': None}}
        figure.savefig(out, dpi=200, metadata=undated.get(out.suffix))


def _label(name: str, group: dict) -> str:
    return name if len(group['layers']) < 2 else f'{name} (+{len(group["layers"]) - 1})'


def _draw_history(figure: Any, axes: Any, records: Sequence[dict]) -> None:
    """Draw the map of expected widths, a column per record."""
    widest = max(1 / min(group['divisors']) for group in records[-1]['groups'].values())
    image = axes.imshow(
        expected_shares(records), cmap=COLOURS, vmin=0, vmax=widest, aspect='auto', interpolation='nearest',
    )  # fmt: skip
    figure.colorbar(image, ax=axes, label='share of the full width', location='right', fraction=0.04, pad=0.02)
    last = len(records) - 1
    ticks = sorted({round(i * last / min(TICKS, max(last, 1))) for i in range(min(TICKS, max(last, 1)) + 1)})
    axes.set_xticks(ticks, [records[i]['epoch'] for i in ticks])
    taus = [record['tau'] for record in records if 'tau' in record]
    axes.set_xlabel('epoch' + (f' (temperature τ from {taus[0]:.3g} to {taus[-1]:.3g})' if taus else ''))
    axes.set_title('expected width', loc='left', fontsize=9)


def _draw_end(figure: Any, axes: Any, groups: dict[str, dict]) -> None:
    """Draw a bar of probabilities per group, the chosen width beside it."""
    from matplotlib import colormaps

    divisors = sorted({divisor for group in groups.values() for divisor in group['divisors']})
    steps = max(len(divisors) - 1, 1)
    rows, begin = list(range(len(groups))), [0.0] * len(groups)
    for i, divisor in enumerate(divisors):
        lengths = [dict(zip(g['divisors'], g['probabilities'], strict=True)).get(divisor, 0) for g in groups.values()]
        colour = colormaps[COLOURS](0.9 - 0.7 * i / steps)
        axes.barh(rows, lengths, left=begin, height=0.8, color=colour, label=f'width / {divisor:g}')
        begin = [b + length for b, length in zip(begin, lengths, strict=True)]
    for row, group in enumerate(groups.values()):
        text = f'{full_width(group):g} → {group["widths"][chosen(group)]:g}'
        axes.text(1.015, row, text, va='center', fontsize=7, color='#333333')
    axes.set_xlim(0, 1.2)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_xlabel('probability')
    axes.set_title('at the end, with the most probable width', loc='left', fontsize=9)
    figure.legend(*axes.get_legend_handles_labels(), loc='outside upper right', ncols=len(divisors), frameon=False)
