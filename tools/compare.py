"""Compare finished runs in one table and one page: accuracy, size, latency and what the training cost.

A WORK_DIR holds the result.json and student.pth of a run; a folder of work directories stands for all of them.

    python tools/compare.py work_dirs/recasting work_dirs/kd_mse work_dirs/backprop --out report/
    python tools/compare.py work_dirs/quickstart --out report/ --no-latency

writes comparison.md, comparison.csv, comparison.json and index.html, see docs/comparing.md.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.utils import import_modules_from_strings

import mmrecast  # noqa: F401  (mends come first)
from mmrecast.analysis.comparison import ROUNDS, Comparison, compare
from mmrecast.analysis.comparison_files import check_folder, write_comparison
from mmrecast.analysis.comparison_tables import table_terminal
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.setup_env import register_all_modules


def default_title(comparison: Comparison) -> str:
    """Return a heading made of the data and the teacher."""
    whose = f' of {comparison.teacher_name}' if comparison.teacher_name else ''
    return f'{comparison.results[0]["dataset"]}: students{whose}'


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='of a finished run, or a folder of such')
    parser.add_argument('--out', type=Path, default=Path('report'), help='folder for the files (%(default)s)')
    parser.add_argument('--title', help='heading of the page (made of the data and the teacher)')
    parser.add_argument('--no-latency', action='store_true', help='leave the latency out')
    parser.add_argument('--batch-sizes', nargs='+', type=int, default=list(ROUNDS), metavar='N', help='(%(default)s)')
    parser.add_argument('--repeats', type=int, metavar='N', help='rounds per batch size (100 for one image, else 30)')
    parser.add_argument('--device', default='cpu', help="where latency is measured: 'cpu', 'cuda:1' (%(default)s)")
    parser.add_argument('--threads', type=int, metavar='N', help="PyTorch's threads meanwhile (as they are set)")
    parser.add_argument('--same-data', action='store_true', help='different data roots hold the same images')
    parser.add_argument(
        '--import', nargs='+', default=[], dest='modules', metavar='MODULE', help='modules with blocks of your own'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the runs that the command line names."""
    args = parsed(argv)
    sizes = [] if args.no_latency else args.batch_sizes
    with told_in_one_line():
        out = check_folder(args.out)
        register_all_modules()
        try:
            import_modules_from_strings(args.modules)
        except ImportError as error:
            raise ImportError(f'--import: {error}; a module of yours needs its folder on PYTHONPATH') from error
        rounds = {size: ROUNDS.get(size, 30) if args.repeats is None else args.repeats for size in sizes}
        comparison = compare(args.work_dirs, rounds, args.device, args.threads, args.same_data, say)
        command = f'python {shlex.join(sys.argv if argv is None else [sys.argv[0], *argv])}'
        files = write_comparison(comparison, out, args.title or default_title(comparison), command)
        say(f'\n{table_terminal(comparison.rows)}\n')
        for note in comparison.notes:
            say(note)
        say(f'written: {", ".join(map(str, files))}')


if __name__ == '__main__':
    main()
