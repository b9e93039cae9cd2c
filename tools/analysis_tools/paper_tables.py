"""Print the tables of the Network Recasting paper about our own networks: every count as printed, and as it is here.

All networks are built from our configs, without weights and without memory for any, and run once. docs/paper_tables.yml
holds the tables and what is known of their slips.

    python tools/analysis_tools/paper_tables.py --check    # fails where a figure neither agrees nor is explained
    python tools/analysis_tools/paper_tables.py --markdown --out docs/results.md
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from mmrecast.analysis.paper import Paper, read_paper
from mmrecast.analysis.paper_counts import HEAD, Measured, compared, figures_of, measure
from mmrecast.analysis.results_page import results_page
from mmrecast.analysis.tables import render_table
from mmrecast.apis.networks import networks_of
from mmrecast.utils.checkpoint import write_text
from mmrecast.utils.cli import told_in_one_line

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / 'docs' / 'paper_tables.yml'
RESULTS = ROOT / 'docs' / 'results'


def measured_networks(paper: Paper) -> dict[str, Measured]:
    """Build and count every network of the paper; of a config that has one, the student."""
    measured = {}
    with torch.device('meta'):  # shapes are all that counting needs
        for name, network in paper.networks.items():
            config = network.source.endswith('.py')
            found = networks_of(ROOT / network.source if config else network.source)
            counted = found.teacher if found.student is None else found.student
            measured[name] = measure(counted, found.input_shape, network.corrections)
    return measured


def as_json(paper: Paper, measured: dict[str, Measured]) -> str:
    """Return every row with its printed cells and its figures."""
    rows = [
        asdict(row) | dict(figures=[asdict(figure) for figure in figures_of(row, measured, paper)])
        for row in paper.rows
    ]
    networks = {name: network.source for name, network in paper.networks.items()}
    return json.dumps(dict(networks=networks, rows=rows), indent=1, ensure_ascii=False)


def as_text(paper: Paper, measured: dict[str, Measured]) -> str:
    """Return the table of counts for the terminal, and its notes."""
    lines, notes = compared(paper, measured)
    table = render_table(HEAD, lines, right=('printed', 'ours', 'ours, counted as printed'))
    return '\n'.join([table, '', *(f'[{number}] {note}' for number, note in enumerate(notes, 1))])


def verdict(paper: Paper, measured: dict[str, Measured]) -> tuple[str, bool]:
    """Return a sentence on all figures, and whether none of them differs without a reason."""
    figures = [figure for row in paper.rows for figure in figures_of(row, measured, paper)]
    verdicts = [figure.verdict for figure in figures]
    told = ', '.join(f'{verdicts.count(name)} {name}' for name in dict.fromkeys(verdicts))
    return f'{len(figures)} printed figures: {told}', 'differs' not in verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='exit with 1 if a figure differs without a reason')
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        '--markdown', action='store_true', help='the whole page docs/results.md: errors and latencies, too'
    )
    form.add_argument('--json', action='store_true', help='every row with its figures')
    parser.add_argument('--out', metavar='FILE', help='write it there instead of printing it')
    args = parser.parse_args()
    with told_in_one_line():
        paper = read_paper(TABLES)
        measured = measured_networks(paper)
        if args.markdown:
            text = results_page(paper, measured, RESULTS)
        else:
            text = as_json(paper, measured) + '\n' if args.json else as_text(paper, measured) + '\n'
        if args.out:
            write_text(text, args.out)
        else:
            print(text, end='')
        said, fine = verdict(paper, measured)
        print(said, file=sys.stderr)
    if args.check and not fine:
        sys.exit(1)


if __name__ == '__main__':
    main()
