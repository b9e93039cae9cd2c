"""A tool loaded as a module, and called as its command line is: that of the test file's ``TOOL``."""

import importlib.util
import sys

import pytest


@pytest.fixture
def tool(request, monkeypatch):
    """The module."""
    path = request.module.TOOL
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def loaded(request, registered):
    """The module, once for a file, its folder on the path: it, or what it imports from there, registers something."""
    path = request.module.TOOL
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def call(request, tool, monkeypatch, capsys):
    """Run the tool in this process: (exit status, output, error)."""

    def run(*args):
        monkeypatch.setattr(sys, 'argv', [request.module.TOOL.name, *map(str, args)])
        status = 0
        try:
            tool.main()
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run
