"""Build a network from whatever a user names it by."""

import copy
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from mmrecast.registry import MODELS
from mmrecast.utils.config_file import read_config
from mmrecast.utils.names import nearest

__all__ = ['build_network', 'network_config']

_LIBRARIES = dict(torchvision='TorchvisionClassifier', timm='TimmClassifier')  # of networks given as LIBRARY:NAME


def build_network(source: Mapping | str | Path | nn.Module) -> nn.Module:
    """Return the network that ``source`` names, initialised as its constructor leaves it.

    Args:
        source (Mapping | str | Path | nn.Module): A config (``dict(type=…)``), the path of a config file,
            the name of one of mmpretrain's models (whose published weights are not fetched),
            ``torchvision:NAME`` or ``timm:NAME``, or the network itself, which is returned as it is.

    Raises:
        TypeError: ``source`` is none of these, or does not build an ``nn.Module``.
        ValueError: ``source`` is an unknown name, or a config that cannot be read or has no ``model`` or ``type``.
        FileNotFoundError: There is no such config file.
        KeyError: A ``type`` is not registered.
    """
    if isinstance(source, nn.Module):
        return source
    cfg = network_config(source)
    network = MODELS.build(cfg)
    if not isinstance(network, nn.Module):
        raise TypeError(f'type {cfg["type"]!r} builds no network, but {type(network).__name__}')
    return network


def network_config(source: Mapping | str | Path) -> dict:
    """Return a copy of the config that ``source`` names, of which ``MODELS`` can build the network.

    Types without a scope are looked up where the config's own type lives: a ``ResNet`` inside
    ``dict(type='mmpretrain.ImageClassifier', …)`` is mmpretrain's.

    Args:
        source (Mapping | str | Path): As for ``build_network``, the network itself excepted.

    Raises:
        TypeError, ValueError, FileNotFoundError: As for ``build_network``.
    """
    if isinstance(source, Mapping):
        cfg, scope = source, 'mmrecast'
    elif isinstance(source, str | Path):
        cfg, scope = _from_file(Path(source)) if Path(source).suffix == '.py' else _from_name(str(source))
    else:
        raise TypeError(
            'a network is given as a config, a config file, the name of an mmpretrain model, torchvision:NAME, '
            f'timm:NAME or an nn.Module, got {type(source).__name__}'
        )
    if 'type' not in cfg:
        raise ValueError(f"the config of a network needs 'type', got only {sorted(map(str, cfg))}")
    cfg = copy.deepcopy(cfg.to_dict() if hasattr(cfg, 'to_dict') else dict(cfg))
    if isinstance(cfg['type'], str):
        *own_scope, _ = cfg['type'].split('.')
        if own_scope:
            scope = own_scope[0]
        elif scope != 'mmrecast':
            cfg['type'] = f'{scope}.{cfg["type"]}'
        cfg.setdefault('_scope_', scope)
    return cfg


def _from_file(path: Path) -> tuple[Mapping, str]:
    config = read_config(path)
    if not isinstance(config.get('model'), Mapping):
        raise ValueError(f"config {path} has no 'model'; it has {sorted(config)}")
    model, scope = config.model, config.get('default_scope') or 'mmrecast'
    if scope == 'mmpretrain' and config.get('data_preprocessor'):
        model.setdefault('data_preprocessor', config.data_preprocessor)
    return model, scope


def _from_name(name: str) -> tuple[Mapping, str]:
    library, colon, plain = name.partition(':')
    if not colon:
        return _from_file(_mmpretrain_file(name))
    if library not in _LIBRARIES:
        raise ValueError(f'{name!r}: unknown library {library!r}{nearest(library, _LIBRARIES)}')
    return dict(type=_LIBRARIES[library], name=plain), 'mmrecast'


def _mmpretrain_file(name: str) -> Path:
    """Return the config file of an mmpretrain model, given by that file's name or by the model's."""
    import mmpretrain  # takes seconds, and is needed by those alone who name one of its models
    from mmpretrain.apis.model import ModelHub

    folder = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
    files = {file.stem: file for file in sorted(folder.glob('*/*.py'))}
    if name in files:
        return files[name]
    models = mmpretrain.list_models()
    if name not in models:
        raise ValueError(f'mmpretrain has no model {name!r}{nearest(name, [*models, *files])}')
    return Path(ModelHub.get(name).config.filename)
