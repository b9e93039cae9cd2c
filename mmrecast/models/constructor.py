"""Constructors: configs of untrained networks, plain enough to be stored and safe enough to be built."""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping

from mmengine.registry import MODELS as ROOT_MODELS

from mmrecast.registry import BLOCKS, MODELS
from mmrecast.utils.names import nearest

__all__ = ['check_constructor', 'untrained']

_WEIGHT_KEYS = ('init_cfg', 'weights', 'pretrained', 'ckpt')
_PLAIN_DATA = 'a constructor holds dict, list, tuple, str, numbers, bool and None alone'
_SCOPES = ('mmrecast', 'mmengine', 'mmpretrain')
# These read files or the network while they are built.
_REFUSED_MODULES = (
    'mmrecast.algorithms',
    'mmrecast.models.teacher_ensemble',
    'mmpretrain.models.backbones.timm_backbone',
    'mmpretrain.models.classifiers.hugging_face',
    'mmpretrain.models.classifiers.timm',
    'mmpretrain.models.heads.grounding_head',
    'mmpretrain.models.heads.vqa_head',
    'mmpretrain.models.multimodal',
    'mmpretrain.models.retrievers',
    'mmpretrain.models.selfsup',
)
# What a class might open, whichever argument it stands for: mmengine fetches addresses and unpickles by the suffix.
_FILE = re.compile(
    r'[/\\]|^~|^\.\.?$|\.(bin|ckpt|csv|gz|json|npy|npz|onnx|pickle|pkl|pt|pth|py|safetensors|tar|txt|ya?ml|zip)$', re.I
)


def untrained(cfg: Mapping) -> dict:
    """Copy a network's config as plain data, without what would load or draw weights.

    Every ``init_cfg``, ``weights``, ``pretrained`` and ``ckpt`` is dropped, at any depth; a class given as ``type``
    becomes its registered name.

    Args:
        cfg (Mapping): The config (``dict`` or mmengine's ``ConfigDict``); it is not changed.

    Returns:
        dict: Of dict, list, tuple, str, int, float, bool and None alone.

    Raises:
        TypeError: A value is of another type.
        ValueError: A class given as ``type`` is not registered.
    """
    return _plain(cfg.to_dict() if hasattr(cfg, 'to_dict') else cfg, 'model')


def check_constructor(cfg: object) -> None:
    """Refuse a constructor that could do more than build a network of registered parts.

    Nothing is built, and nothing that the constructor names is imported: mmengine's registries would import a
    dotted path, and call what they find there.

    Args:
        cfg (object): What ``untrained`` returned, or a file claims that it did.

    Raises:
        ValueError: A ``type`` is not registered, or is no part of a network; or ``cfg`` asks for weights or
            for an unknown scope, names a file, or is no plain data.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ValueError(f"a constructor is a dict with 'type', got {type(cfg).__name__}")
    for path, part in _dicts(cfg, 'constructor'):
        for key in _WEIGHT_KEYS:
            if part.get(key) is not None:
                raise ValueError(f'{path}.{key}: a constructor must not load weights, got {part[key]!r}')
        scope = part.get('_scope_', 'mmrecast')
        if scope not in _known_scopes():
            raise ValueError(f'{path}._scope_: unknown scope {scope!r}{nearest(str(scope), _known_scopes())}')
        if 'type' in part:
            # `build_network` builds the outermost in its own scope; in which one the rest is built, its owner decides.
            _check_type(part['type'], f'{path}.type', scope if part is cfg else None)


def _plain(value: object, path: str) -> object:
    if isinstance(value, Mapping):
        return {
            _plain_key(key, path): _type_name(item, path) if key == 'type' else _plain(item, f'{path}.{key}')
            for key, item in value.items()
            if key not in _WEIGHT_KEYS
        }
    if type(value) in (list, tuple):
        return type(value)(_plain(item, f'{path}[{i}]') for i, item in enumerate(value))
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TypeError(f'{path} is {type(value).__name__}: {_PLAIN_DATA}')


def _plain_key(key: object, path: str) -> str | int:
    if type(key) in (str, int):
        return key
    raise TypeError(f'{path}: key {key!r} is {type(key).__name__}, a constructor has str and int')


def _type_name(type_: object, path: str) -> str:
    if isinstance(type_, str):
        return type_
    for scope in _known_scopes():
        for name, registered in _parts_of(scope).items():
            if registered is type_:
                return f'{scope}.{name}'
    raise ValueError(f'{path}.type: {type_!r} is not registered, so that no constructor can name it')


def _dicts(value: object, path: str) -> Iterator[tuple[str, dict]]:
    """Yield every dict inside ``value`` with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from _dicts(item, f'{path}.{key}')
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _dicts(item, f'{path}[{i}]')
    elif isinstance(value, str) and _FILE.search(value):
        raise ValueError(f'{path}: a constructor must not name a file or an address, got {value[:80]!r}')
    elif value is not None and type(value) not in (str, int, float, bool):
        raise ValueError(f'{path} is {type(value).__name__}: {_PLAIN_DATA}')


def _known_scopes() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*_SCOPES, *ROOT_MODELS.children)))


def _parts_of(scope: str) -> dict[str, type]:
    """Return what is registered in a known scope as a network or a part of one."""
    if scope == 'mmrecast':
        MODELS.import_from_location()
        BLOCKS.import_from_location()
        return {**BLOCKS.module_dict, **MODELS.module_dict}
    if scope == 'mmengine':
        importlib.import_module('mmcv.cnn')  # registers layers: 'BN', 'ReLU'
        return ROOT_MODELS.module_dict
    if scope == 'mmpretrain':
        importlib.import_module('mmpretrain.models')
        augments = importlib.import_module('mmpretrain.registry').BATCH_AUGMENTS
        return {**augments.module_dict, **ROOT_MODELS.children['mmpretrain'].module_dict}
    return ROOT_MODELS.children[scope].module_dict


def _check_type(type_: object, path: str, scope: str | None) -> None:
    """Check what a type means in ``scope``, or where that is None or lacks it, whatever it may come to mean."""
    if not isinstance(type_, str):
        raise ValueError(f'{path}: a registered name expected, got {type(type_).__name__}')
    prefix, _, name = type_.rpartition('.')
    scopes = [s for s in _known_scopes() if prefix in ('', s)]
    found = [s for s in scopes if name in _parts_of(s)]
    if not found:
        names = [n for s in scopes for n in _parts_of(s)]
        hint = '; a class of yours must be imported first'
        raise ValueError(f'{path}: {type_!r} is not registered{nearest(name, names)}{hint}')
    for where in [scope] if scope in found else found:
        part = _parts_of(where)[name]
        # No function of another library is called: some of mmpretrain's fetch models and code from Hugging Face.
        known = where == 'mmrecast' or inspect.isclass(part)
        if not known or part.__module__.startswith(_REFUSED_MODULES):
            instead = f': write mmrecast.{name}' if 'mmrecast' in found else ''
            raise ValueError(f'{path}: {type_!r} is no part of a network that may be built from a file{instead}')
