"""Imports point downward only, and siblings of one layer do not import each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYERS = {
    'registry': 0, 'utils': 0, 'version': 0, '': 0,
    'blocks': 1, 'connectors': 1, 'losses': 1, 'models': 1, 'datasets': 1,
    'surgery': 2, 'links': 2, 'stages': 2,
    'algorithms': 3,
    'engine': 4, 'analysis': 4,
    'planning': 5,
    'apis': 6, 'tools': 6,
}  # fmt: skip
"""dict[str, int]: Layer of each part: ``mmrecast.<part>``, of ``tools``, and of the package itself ('')."""

BOTTOM = 0  # its parts make one whole: the registries use utils
SIBLINGS = {
    ('models', 'blocks'),  # a network may be made of target blocks
    ('tools', 'apis'),  # a command line is an API call with its arguments read from the shell
}
LAZY = {'mmrecast/utils/setup_env.py'}  # registering everything means importing it, by name and when called


def imports(path: Path, package: str) -> Iterator[tuple[int, str | None]]:
    """Yield (line, module) for each import of a file, ``None`` where the module is only known when it runs.

    Args:
        path (Path): A Python file.
        package (str): Name of the package the file is in, for relative imports; '' for a script.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package.split('.')[: len(package.split('.')) - node.level + 1] if node.level else []
            base = '.'.join([*start, *([node.module] if node.module else [])])
            yield from ((node.lineno, f'{base}.{alias.name}') for alias in node.names)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            if name in ('import_module', '__import__') and node.args:
                module = node.args[0]
                yield node.lineno, module.value if isinstance(module, ast.Constant) else None


def part_of(module: str, root: Path) -> str | None:
    """Return the part of the repository a module belongs to, or None for one from elsewhere."""
    first, *rest = module.split('.')
    if first == 'tools':
        return 'tools'
    if first != 'mmrecast':
        return None
    exists = rest and ((root / 'mmrecast' / rest[0]).is_dir() or (root / 'mmrecast' / f'{rest[0]}.py').is_file())
    return rest[0] if exists else ''


def violations(root: Path) -> list[str]:
    """Return one line for each import under ``mmrecast/`` and ``tools/`` that the layers forbid."""
    found = []
    for path in sorted([*root.glob('mmrecast/**/*.py'), *root.glob('tools/**/*.py')]):
        name = path.relative_to(root).as_posix()
        module = name.removesuffix('.py').replace('/', '.').removesuffix('.__init__')
        package = module if path.name == '__init__.py' else module.rpartition('.')[0]
        here = part_of(module, root)
        if here not in LAYERS:
            found.append(f'{name}: {here!r} is in no layer')
            continue
        for line, imported in imports(path, package):
            if imported is None:
                if name not in LAZY:
                    found.append(f'{name}:{line}: imports what is only known when it runs')
                continue
            there = part_of(imported, root)
            if there is None or there == here or (here, there) in SIBLINGS:
                continue
            if there not in LAYERS:
                found.append(f'{name}:{line}: {there!r} is in no layer')
            elif LAYERS[there] > LAYERS[here] or LAYERS[there] == LAYERS[here] != BOTTOM:
                found.append(f'{name}:{line}: {here or "mmrecast"} imports {there}')
    return list(dict.fromkeys(found))


def test_imports_point_downward(repo_root):
    assert violations(repo_root) == []


def test_every_part_is_looked_at(repo_root):
    parts = {path.stem for path in (repo_root / 'mmrecast').iterdir() if path.name[0] not in '._'}
    assert parts <= set(LAYERS)
    assert len(list((repo_root / 'mmrecast').glob('**/*.py'))) > 20


@pytest.fixture
def tree(tmp_path):
    for part in (
        'utils',
        'blocks',
        'models',
        'losses',
        'surgery',
        'algorithms',
        'engine',
        'analysis',
        'apis',
    ):
        (tmp_path / 'mmrecast' / part).mkdir(parents=True)
        (tmp_path / 'mmrecast' / part / '__init__.py').touch()
    for name in ('mmrecast/__init__.py', 'mmrecast/registry.py', 'mmrecast/stages.py'):
        (tmp_path / name).touch()
    (tmp_path / 'tools').mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ('file', 'code', 'expected'),
    [
        ('utils/a.py', 'from mmrecast.blocks import X', 'mmrecast/utils/a.py:1: utils imports blocks'),
        ('utils/a.py', 'import mmrecast.blocks.conv as c', 'mmrecast/utils/a.py:1: utils imports blocks'),
        ('utils/a.py', 'from mmrecast import os, engine', 'mmrecast/utils/a.py:1: utils imports engine'),
        ('utils/a.py', 'from ..blocks import X', 'mmrecast/utils/a.py:1: utils imports blocks'),
        ('utils/a.py', 'from .. import apis', 'mmrecast/utils/a.py:1: utils imports apis'),
        ('utils/__init__.py', 'from ..blocks import X', 'mmrecast/utils/__init__.py:1: utils imports blocks'),
        (
            'surgery/a.py',
            '\ndef f():\n    import mmrecast.engine',
            'mmrecast/surgery/a.py:3: surgery imports engine',
        ),
        ('blocks/a.py', 'import mmrecast.models', 'mmrecast/blocks/a.py:1: blocks imports models'),
        ('losses/a.py', 'import mmrecast.blocks', 'mmrecast/losses/a.py:1: losses imports blocks'),
        ('surgery/a.py', 'import mmrecast.stages', 'mmrecast/surgery/a.py:1: surgery imports stages'),
        ('stages.py', 'import mmrecast.surgery', 'mmrecast/stages.py:1: stages imports surgery'),
        ('engine/a.py', 'import mmrecast.analysis', 'mmrecast/engine/a.py:1: engine imports analysis'),
        ('apis/a.py', 'import tools.train', 'mmrecast/apis/a.py:1: apis imports tools'),
        ('__init__.py', 'import mmrecast.models', 'mmrecast/__init__.py:1: mmrecast imports models'),
        ('registry.py', 'from mmrecast import models', 'mmrecast/registry.py:1: registry imports models'),
        (
            'blocks/a.py',
            'if TYPE_CHECKING:\n    from mmrecast.algorithms import R',
            'mmrecast/blocks/a.py:2: blocks imports algorithms',
        ),
        (
            'blocks/a.py',
            'import importlib\nimportlib.import_module("mmrecast.engine")',
            'mmrecast/blocks/a.py:2: blocks imports engine',
        ),
        (
            'blocks/a.py',
            'import_module(name)',
            'mmrecast/blocks/a.py:1: imports what is only known when it runs',
        ),
        ('extras/a.py', 'import os', "mmrecast/extras/a.py: 'extras' is in no layer"),
    ],
)
def test_a_violation_is_found(file, code, expected, tree):
    path = tree / 'mmrecast' / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)
    assert violations(tree) == [expected]


@pytest.mark.parametrize(
    ('file', 'code'),
    [
        ('models/a.py', 'from mmrecast.blocks import ConvBlock'),
        ('models/a.py', 'from . import b\nfrom .b import c\nfrom ..utils import d'),
        ('registry.py', 'from mmrecast.utils.names import nearest'),
        ('engine/a.py', 'from mmrecast import algorithms, __version__\nimport mmrecast.surgery, torch'),
        ('utils/setup_env.py', 'import_module(f"mmrecast.{part}")'),
        ('blocks/a.py', 'importlib.import_module("torch")'),
        ('../tools/a.py', 'from mmrecast.engine import loop\nfrom mmrecast.analysis import table'),
    ],
)
def test_what_is_allowed_passes(file, code, tree):
    (tree / 'mmrecast' / file).write_text(code)
    assert violations(tree) == []
