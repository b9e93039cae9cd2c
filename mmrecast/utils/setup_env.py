"""Register everything that configs may name."""

import warnings
from datetime import datetime
from importlib import import_module

_PARTS = ('blocks', 'connectors', 'losses', 'models', 'datasets', 'surgery.student_file', 'algorithms', 'engine')
_MMPRETRAIN_PARTS = ('datasets', 'engine', 'evaluation', 'models', 'structures', 'visualization')


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import every module of mmrecast and mmpretrain that registers something.

    Args:
        init_default_scope (bool): Whether to look up types that name no scope in ``mmrecast``. Defaults to
            True.
    """
    for part in _MMPRETRAIN_PARTS:
        import_module(f'mmpretrain.{part}')
    for part in _PARTS:
        import_module(f'mmrecast.{part}')
    if init_default_scope:
        _set_default_scope('mmrecast')


def _set_default_scope(scope: str) -> None:
    from mmengine import DefaultScope

    current = DefaultScope.get_current_instance()
    if current is not None and current.scope_name == scope:
        return
    if current is not None:
        warnings.warn(
            f'default scope changes from {current.scope_name!r} to {scope!r}; '
            'register_all_modules(init_default_scope=False) would leave it',
            stacklevel=3,
        )
    name = scope if current is None else f'{scope}-{datetime.now().isoformat()}'
    DefaultScope.get_instance(name, scope_name=scope)
