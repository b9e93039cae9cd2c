"""What setup.py asks for, and that constraints.txt has a version of it."""

import re
import sysconfig
from runpy import run_path

import pytest
import setuptools
from packaging.requirements import Requirement


def _setup(root, monkeypatch):
    given = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **kwargs: given.update(kwargs))
    run_path(str(root / 'setup.py'))
    return given


def test_every_requirement_has_a_pin_within_its_range(repo_root, monkeypatch):
    given = _setup(repo_root, monkeypatch)
    lines = [line for line in (repo_root / 'constraints.txt').read_text().splitlines() if not line.startswith('#')]
    pins = {pin.name.lower(): pin for pin in map(Requirement, lines)}
    assert all(re.fullmatch(r'==[\d.]+', str(pin.specifier)) for pin in pins.values())
    asked = [*given['install_requires'], *(r for extra in given['extras_require'].values() for r in extra)]
    for requirement in map(Requirement, asked):
        if requirement.name == 'mmcv':
            continue
        version = str(pins[requirement.name.lower()].specifier).removeprefix('==')
        assert requirement.specifier.contains(version), requirement
    assert set(given['extras_require']) == {'tests', 'export', 'quickstart', 'timm'}


@pytest.mark.parametrize(('there', 'expected'), [('mmcv', False), ('mmcv_lite', True), ('mmcv_other', True)])
def test_mmcv_lite_is_not_put_over_a_full_mmcv(there, expected, repo_root, tmp_path, monkeypatch):
    info = tmp_path / f'{there}-2.1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {there.replace("_", "-")}\nVersion: 2.1.0\n')
    monkeypatch.setattr(sysconfig, 'get_path', lambda name: str(tmp_path))
    names = [Requirement(line).name for line in _setup(repo_root, monkeypatch)['install_requires']]
    assert ('mmcv-lite' in names) == expected
    assert 'mmcv' not in names


def test_no_place_to_download_from_is_written_down(repo_root):
    for name in ('setup.py', 'constraints.txt', 'tools/lib/venv.sh', 'tools/run_tests.sh', '.ci/run'):
        assert not re.search(r'https?://|index-url|find-links', (repo_root / name).read_text()), name
