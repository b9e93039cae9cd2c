"""What a result was made with."""

import platform
import re
import subprocess

import mmengine
import numpy
import torch

from mmrecast.utils import versions as module
from mmrecast.utils.versions import commit, made_with, versions
from mmrecast.version import __version__


def test_versions_are_plain_text():
    """torch's own is of a type that a checkpoint may not hold."""
    found = made_with()
    assert {type(value) for value in found.values()} == {str}
    assert (found['torch'], found['mmrecast']) == (str(torch.__version__), __version__)
    assert (found['mmengine'], found['numpy']) == (mmengine.__version__, numpy.__version__)
    assert {'mmcv', 'mmpretrain', 'torchvision'} <= set(found) and found['python'] == platform.python_version()
    assert versions().items() <= found.items()


def test_the_commit_of_a_checkout(repo_root, tmp_path, monkeypatch):
    if (repo_root / '.git').exists():
        head = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=repo_root, capture_output=True, text=True).stdout
        assert re.fullmatch(rf'{head.strip()}(-dirty)?', commit()) and made_with()['commit'] == commit()
    place = tmp_path / 'mmrecast' / 'utils' / 'versions.py'
    monkeypatch.setattr(module, '__file__', str(place))
    assert commit.__wrapped__() is None
    run = ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a@b.c']
    place.parent.mkdir(parents=True)
    place.write_text('one')
    subprocess.run(['git', 'init', '-q', str(tmp_path)], check=True)
    subprocess.run([*run, 'add', '.'], check=True)
    subprocess.run([*run, 'commit', '-qm', 'x'], check=True)
    assert re.fullmatch('[0-9a-f]{40}', commit.__wrapped__())
    place.write_text('two')
    assert commit.__wrapped__().endswith('-dirty')
