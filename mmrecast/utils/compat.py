"""Mends for what does not fit together in the libraries below; ``import mmrecast`` applies them, once.

Each one acts only when, and only where, the thing it mends is met, so that importing mmrecast stays quick and
an environment that is in order is left as it is.
"""

import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec, spec_from_loader
from pathlib import Path
from types import ModuleType


def mend() -> None:
    """Apply every mend; a second call changes nothing."""
    silence_mmcv_lite()
    if not any(isinstance(finder, _PkgResources) for finder in sys.meta_path):
        sys.meta_path.append(_PkgResources())
    if 'torchvision' not in sys.modules and not any(isinstance(f, _BeforeTorchvision) for f in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())


def silence_mmcv_lite() -> None:
    """Ignore the one warning of mmcv-lite that its compiled ``MultiScaleDeformableAttention`` is absent."""
    message = 'Fail to import ``MultiScaleDeformableAttention`` from ``mmcv.ops.multi_scale_deform_attn``'
    warnings.filterwarnings('ignore', message, UserWarning, r'mmcv\.cnn\.bricks\.transformer$')


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing; runs :func:`define_torchvision_operators` once, just before torchvision is imported."""

    def find_spec(self, fullname: str, path=None, target=None) -> None:
        if fullname == 'torchvision':
            sys.meta_path.remove(self)
            define_torchvision_operators()


_operators = None  # the torch.library.Library of our schemas: they are gone with the object that holds them


def define_torchvision_operators() -> bool:
    """Define ``torchvision::nms`` and ``qnms`` for torch where torchvision's compiled library does not load.

    A torchvision wheel for CUDA beside a CPU build of torch cannot load its library, and then fails to import
    because it describes these two operators to torch. They get a schema only: calling them is still an error.

    Returns:
        bool: Whether anything was defined.
    """
    global _operators
    spec = PathFinder.find_spec('torchvision')
    if spec is None or not spec.submodule_search_locations:
        return False
    import torch

    for library in Path(spec.submodule_search_locations[0]).glob('_C*'):
        try:
            torch.ops.load_library(str(library))  # what torchvision does first; a second time costs nothing
        except OSError:
            continue
    absent = [name for name in ('nms', 'qnms') if not hasattr(torch.ops.torchvision, name)]
    if absent and _operators is None:
        _operators = torch.library.Library('torchvision', 'FRAGMENT')
        for name in absent:
            _operators.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    return bool(absent)


class _PkgResources(MetaPathFinder, Loader):
    """Last of all finders: serves the little of ``pkg_resources`` that mmengine uses, if there is none.

    mmengine reloads the module, so an object in ``sys.modules`` without a finder would not do.
    """

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname == 'pkg_resources' else None

    def exec_module(self, module: ModuleType) -> None:
        module.DistributionNotFound = PackageNotFoundError
        module.get_distribution = _Distribution


class _Distribution:
    """An installed distribution as ``pkg_resources.get_distribution`` gives it.

    Args:
        name (str): Name of the distribution.

    Raises:
        PackageNotFoundError: There is none of that name.
    """

    def __init__(self, name: str) -> None:
        self._found = distribution(name)
        self.project_name = name
        self.version = self._found.version

    @property
    def location(self) -> str:
        """The folder that holds the package: of an editable install, the one its source is in."""
        folder = Path(self._found.locate_file(''))
        package = (self._found.read_text('top_level.txt') or self.project_name).split()[0]
        if not (folder / package).exists():
            spec = find_spec(package)
            if spec is not None and spec.origin:
                folder = Path(spec.origin).parent.parent
        return str(folder)

    def has_metadata(self, name: str) -> bool:
        """Tell whether the distribution brings the metadata file ``name``."""
        return self._found.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        """Return the text of the metadata file ``name``, empty if there is none."""
        return self._found.read_text(name) or ''
