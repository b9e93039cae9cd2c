"""What stands in the pages under docs/, for tests that run it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def files_of(page: str) -> dict[str, str]:
    """Return the code blocks of a page that begin with a file's name."""
    blocks = re.findall(r'```python\n(# (\w+\.py)\n.*?)```', page, re.S)
    return {name: code for code, name in blocks}


def rows_below(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose first line begins with ``heading``."""
    lines = page.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f'| {heading} |'))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith('|'):
            break
        rows.append([cell.strip() for cell in line.strip('|').split(' | ')])
    return rows


def write(page: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Write the files of a page, with the checkout's configs for their bases, and make ``folder`` the current one."""
    for name, code in files_of(page).items():
        (folder / name).write_text(code.replace("'configs/", f"'{ROOT}/configs/"))
    patch.chdir(folder)
    patch.syspath_prepend(str(folder))
