"""Draw tables for the terminal."""

import sys
from collections.abc import Sequence
from io import StringIO

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text


def render_table(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    right: Sequence[str] = (),
    last_apart: bool = False,
    width: int | None = None,
) -> str:
    """Draw a table as text; without colour codes where the standard output is not a terminal.

    Args:
        columns (Sequence[str]): The headings.
        cells (Sequence[Sequence[str]]): The rows.
        right (Sequence[str]): Columns set flush right. Defaults to none.
        last_apart (bool): Draw a line before the last row. Defaults to False.
        width (int, optional): Columns of text. Defaults to None: the terminal's, or as wide as needed.
    """
    table = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), justify='right' if column in right else 'left', overflow='fold')
    for number, row in enumerate(cells):
        if last_apart and number == len(cells) - 1:
            table.add_section()
        table.add_row(*(Text(str(cell)) for cell in row))
    tty = sys.stdout.isatty()
    width = width or (None if tty else 200)
    console = Console(file=StringIO(), force_terminal=tty, no_color=not tty, width=width, highlight=False)
    console.print(table)
    return '\n'.join(line.rstrip() for line in console.file.getvalue().strip('\n').split('\n'))
