"""Each mend of mmrecast.utils.compat in a fresh process: it mends, and does nothing where all is well."""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from textwrap import dedent

import pytest


def _try(root, code, *flags, path=()):
    """Run ``code`` in a fresh Python that finds the packages in ``path`` first, then this repository."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, [*path, root]))}
    command = [sys.executable, *flags, '-c', dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, cwd=path[0] if path else '/', env=environment)


def _run(root, code, *flags, path=()):
    done = _try(root, code, *flags, path=path)
    assert done.returncode == 0, done.stderr
    return done


def _distribution(folder, name, number, package=None):
    """Make a ``dist-info`` of the given name and version, and nothing else, in ``folder``."""
    info = folder / f'{name.replace("-", "_")}-{number}.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n')
    if package:
        (info / 'top_level.txt').write_text(f'{package}\n')


def _full_mmcv():
    try:
        return bool(version('mmcv'))
    except PackageNotFoundError:
        return False


def test_the_libraries_import_together(repo_root):
    code = 'import mmrecast; import mmpretrain; from mmengine import Config; import torchvision; print("fine")'
    done = _run(repo_root, code, '-W', 'ignore::DeprecationWarning')
    assert done.stdout == 'fine\n'
    assert done.stderr == ''


def test_importing_mmrecast_brings_none_of_them(repo_root):
    code = """
        import sys, mmrecast
        print({'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain'} & set(sys.modules))
    """
    assert _run(repo_root, code).stdout == 'set()\n'


# versions


@pytest.mark.parametrize(
    ('name', 'number', 'message'),
    [
        ('torch', '2.3.1+cu121', r'mmrecast \S+ needs torch>=2\.4, found torch 2\.3\.1\+cu121'),
        ('mmengine', '0.10.6', r'needs mmengine>=0\.10\.7,<0\.11, found mmengine 0\.10\.6'),
        ('mmengine', '0.11.0', r'needs mmengine>=0\.10\.7,<0\.11, found mmengine 0\.11\.0'),
        ('mmpretrain', '1.10', r'needs mmpretrain>=1\.2,<1\.3, found mmpretrain 1\.10'),
        ('mmcv', '2.2.0', r'needs mmcv>=2\.0,<2\.2 \(or mmcv-lite of that version\), found mmcv 2\.2\.0'),
        (
            'mmcv-lite',
            '1.7.2',
            r'needs mmcv>=2\.0,<2\.2 \(or mmcv-lite of that version\), found mmcv 1\.7\.2',
        ),
    ],
)
def test_a_version_outside_its_range_is_one_line(name, number, message, repo_root, tmp_path):
    if name == 'mmcv-lite' and _full_mmcv():
        pytest.skip('a full mmcv is looked at first')
    _distribution(tmp_path, name, number)
    done = _try(repo_root, 'import mmrecast', path=[tmp_path])
    assert done.returncode == 1
    assert re.fullmatch(f'ImportError: {message}', done.stderr.splitlines()[-1].strip()) or re.search(
        f'{message}$', done.stderr.strip()
    )


@pytest.mark.parametrize(
    ('name', 'number'),
    [
        ('torch', '2.4'),
        ('torch', '2.10.0a0+git1'),
        ('torch', '3.0'),
        ('mmcv', '2'),
        ('mmengine', '0.10.7.post1'),
    ],
)
def test_a_version_inside_its_range_is_accepted(name, number, repo_root, tmp_path):
    _distribution(tmp_path, name, number)
    _run(repo_root, 'import mmrecast', path=[tmp_path])


def test_an_absent_library_is_named(repo_root):
    done = _try(repo_root, 'import mmrecast', '-S')
    assert done.stderr.strip().endswith('needs torch>=2.4, found no torch')


# torchvision


def _torchvision_is_broken(root):
    return _try(root, 'import torchvision').returncode != 0


def test_torchvision_imports_and_can_compute(repo_root):
    code = """
        import mmrecast, torch, torchvision
        print(tuple(torchvision.models.resnet18().eval()(torch.zeros(1, 3, 32, 32)).shape))
    """
    assert _run(repo_root, code).stdout == '(1, 1000)\n'


def test_torchvision_after_a_failed_import(repo_root):
    if not _torchvision_is_broken(repo_root):
        pytest.skip('torchvision loads its compiled library here')
    code = """
        try:
            import torchvision
        except RuntimeError:
            import mmrecast, torchvision
            print(torchvision.__name__)
    """
    assert _run(repo_root, code).stdout == 'torchvision\n'


def test_operators_that_exist_are_left_alone(repo_root):
    code = """
        import torch
        library = torch.library.Library('torchvision', 'DEF')
        for name in ('nms', 'qnms'):
            library.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        import mmrecast, torchvision
        from mmrecast.utils import compat
        print(compat._operators, compat.define_torchvision_operators())
    """
    assert _run(repo_root, code).stdout == 'None False\n'


def test_no_operators_without_torchvision(repo_root):
    code = """
        import sys, mmrecast, torch
        from mmrecast.utils import compat
        compat.PathFinder.find_spec = lambda name: None
        print(compat.define_torchvision_operators(), hasattr(torch.ops.torchvision, 'nms'))
    """
    assert _run(repo_root, code).stdout == 'False False\n'


def test_an_imported_torchvision_is_not_waited_for(repo_root, tmp_path):
    (tmp_path / 'torchvision.py').write_text('')
    code = """
        import sys, torchvision, mmrecast
        names = [type(finder).__name__ for finder in sys.meta_path]
        print('_BeforeTorchvision' in names, '_PkgResources' in names)
    """
    assert _run(repo_root, code, path=[tmp_path]).stdout == 'False True\n'


def test_mending_twice_changes_nothing(repo_root):
    code = """
        import sys, mmrecast, warnings
        before = list(sys.meta_path), list(warnings.filters)
        from mmrecast.utils import compat
        compat.mend()
        print((sys.meta_path, warnings.filters) == before)
    """
    assert _run(repo_root, code).stdout == 'True\n'


# pkg_resources


@pytest.mark.parametrize(
    ('base', 'expression', 'expected'),
    [
        ('mmpretrain::_base_/models/resnet18_cifar.py', 'config.model.backbone.type', 'ResNet_CIFAR'),
        ('mmpretrain::resnet/resnet18_8xb16_cifar10.py', 'config.train_dataloader.batch_size', '16'),
    ],
)
def test_a_base_from_mmpretrain(base, expression, expected, repo_root, tmp_path):
    (tmp_path / 'config.py').write_text(f'_base_ = {base!r}\n')
    code = f"""
        import mmrecast
        from mmengine import Config
        config = Config.fromfile('config.py')
        print({expression})
    """
    assert _run(repo_root, code, path=[tmp_path]).stdout == f'{expected}\n'


def test_installed_packages(repo_root, tmp_path):
    site, source = tmp_path / 'site', tmp_path / 'source'
    _distribution(site, 'toy-distribution', '1.0', 'toy')
    (source / 'toy').mkdir(parents=True)
    (source / 'toy' / '__init__.py').write_text('')
    code = """
        import mmrecast
        from mmengine.utils import get_installed_path, is_installed
        print(is_installed('toy-distribution'), is_installed('toy'), is_installed('no_such'))
        print(get_installed_path('toy-distribution'), get_installed_path('toy'))
    """
    done = _run(repo_root, code, path=[site, source])
    assert done.stdout.split('\n')[:2] == ['True True False', f'{source / "toy"} {source / "toy"}']


def test_an_unknown_distribution(repo_root):
    code = """
        import mmrecast, pkg_resources
        try:
            pkg_resources.get_distribution('no_such')
        except pkg_resources.DistributionNotFound as error:
            print(error)
    """
    assert 'no_such' in _run(repo_root, code).stdout


def test_a_real_pkg_resources_is_used(repo_root, tmp_path):
    (tmp_path / 'pkg_resources.py').write_text('real = True\n')
    code = 'import mmrecast, pkg_resources, importlib; print(importlib.reload(pkg_resources).real)'
    assert _run(repo_root, code, path=[tmp_path]).stdout == 'True\n'


# the warning of mmcv-lite


def test_one_warning_is_silent_and_no_other(repo_root):
    code = """
        import warnings
        import mmcv.cnn.bricks.transformer
        place = 'mmcv.ops.multi_scale_deform_attn'
        text = f'Fail to import ``MultiScaleDeformableAttention`` from ``{place}``, and so on'
        warnings.warn_explicit('something else', UserWarning, 'a.py', 1, 'mmcv.cnn.bricks.transformer')
        warnings.warn_explicit(text, UserWarning, 'b.py', 1, 'mmcv.other')
        warnings.warn_explicit(text, RuntimeWarning, 'c.py', 1, 'mmcv.cnn.bricks.transformer')
    """
    flags = '-W', 'default', '-W', 'ignore::DeprecationWarning'
    heard = [_run(repo_root, dedent(code), *flags).stderr for code in ('import mmrecast\n' + dedent(code), code)]
    others = ('a.py:1: UserWarning', 'b.py:1: UserWarning', 'c.py:1: RuntimeWarning')
    assert all(line in text for line in others for text in heard)
    ours, theirs = (text.count('Warning:') for text in heard)
    assert (ours, theirs) == (3, 3 if _full_mmcv() else 4)
