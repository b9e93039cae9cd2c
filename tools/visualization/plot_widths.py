"""Draw how a search for widths went, from what a WidthHook kept in its work dir.

    python tools/visualization/plot_widths.py work_dirs/dan_resnet18_cifar10
    python tools/visualization/plot_widths.py work_dirs/dan_resnet18_cifar10 --out figures/widths.svg

A row per group of layers that have one width: left its expected width over the epochs, right the probabilities of its
widths at the end and the most probable one.
"""

import argparse
from pathlib import Path

from mmrecast.analysis.width_plots import draw_widths, read_widths, summary
from mmrecast.utils.cli import told_in_one_line

FORMATS = ('.png', '.svg', '.pdf')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dir', metavar='WORK_DIR', help='of a run with a WidthHook')
    parser.add_argument('--out', default='widths.png', help='the figure: .png, .svg or .pdf (widths.png)')
    args = parser.parse_args()
    with told_in_one_line():
        out = Path(args.out)
        if out.suffix not in FORMATS:
            raise ValueError(f'--out must end in one of {", ".join(FORMATS)}, got {args.out!r}')
        records = read_widths(args.work_dir)
        out.parent.mkdir(parents=True, exist_ok=True)
        draw_widths(records, out)
        print(f'{summary(records)}\nwritten: {out}')


if __name__ == '__main__':
    main()
