"""Put into one clear line what Python and the libraries below say of a config's mistakes."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from mmengine import registry as mmengine_registry

from mmrecast import registry as our_registry
from mmrecast.utils.names import nearest

_UNKNOWN_TYPE = re.compile(r'(\S+) is not in the ([\w.]+)::(.+?) registry\.')
_NO_TYPE = re.compile(r'`cfg` or `default_args` must contain the key "type", but got (.*)', re.DOTALL)
_UNEXPECTED = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'([\w.<>]+)\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)')

LONGEST = 1000  # characters of a line: what a stranger's file holds is quoted


@contextmanager
def explained() -> Iterator[None]:
    """Raise an unknown type or a wrong argument met inside again, as one line that lists what exists.

    Raises:
        KeyError: A type is not registered.
        TypeError: A class does not take an argument, or lacks one.
    """
    try:
        yield
    except (KeyError, TypeError) as error:
        line = explain(error)
        if line == _text(error):
            raise
        raise (KeyError if isinstance(error, KeyError) else TypeError)(line) from error


def explain(error: BaseException) -> str:
    """Return what ``error`` says in one line.

    Args:
        error (BaseException): As it was caught: its traceback tells which class was called.
    """
    text = _text(error)
    if isinstance(error, KeyError):
        found = _UNKNOWN_TYPE.match(text)
        registry = _registry(found[3], found[2]) if found else None
        if registry is not None:  # an empty one is false
            return our_registry.unknown_type(found[1], registry)
        found = _NO_TYPE.match(text)
        if found:
            return f'a config names no type: {_one_line(found[1]).removesuffix(" None")}'
    if isinstance(error, TypeError):
        found = _UNEXPECTED.search(text)
        if found:
            return _unexpected(found[1], found[2], error.__traceback__)
        found = _MISSING.search(text)
        if found:
            return f'{_plain(found[1])} needs the argument {_one_line(found[2])}, which is not given'
    return _one_line(text) or type(error).__name__


def _text(error: BaseException) -> str:
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _one_line(text: str) -> str:
    line = ' '.join(text.split())
    return line if len(line) <= LONGEST else f'{line[: LONGEST - 120]} … {line[-110:]}'  # its end says what to do


def _registry(name: str, scope: str) -> mmengine_registry.Registry | None:
    for part in (our_registry, mmengine_registry):
        for registry in vars(part).values():
            if isinstance(registry, mmengine_registry.Registry) and registry.name == name:
                root = registry._get_root_registry()
                return root.children.get(scope, root if root.scope == scope else registry)
    return None


def _unexpected(owner: str, argument: str, traceback: TracebackType | None) -> str:
    called = _called(owner, traceback)
    line = f'{_plain(owner) if called is None else called.__name__} takes no argument {argument!r}'
    if called is None:
        return line
    parameters = inspect.signature(called).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != 'self']
    return line + nearest(argument, named)


def _plain(owner: str) -> str:
    return owner.split('<locals>.')[-1].removesuffix('.__init__')


def _called(owner: str, traceback: TracebackType | None) -> Callable | None:
    """Return what a call was made to, by its qualified name: the frame that made the call knows it."""
    if traceback is None:
        return None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame, (class_name, _, method) = traceback.tb_frame, owner.rpartition('.')
    for value in (*frame.f_locals.values(), *frame.f_globals.values()):
        if inspect.isfunction(value) and value.__qualname__ == owner:
            return value
        if class_name and inspect.isclass(value) and any(c.__qualname__ == class_name for c in value.__mro__):
            return value if method in ('__init__', '__new__') else getattr(value, method, None)
    return None
