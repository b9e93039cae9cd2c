"""Load weights into a network: strictly, whatever a checkpoint wraps them in."""

from collections.abc import Iterable, Mapping
from os import PathLike

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrecast.models.convert import convert_cifar_resnet, is_he_style, strip_prefix
from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.names import nearest

__all__ = ['load_weights']


def load_weights(network: nn.Module, path: str | PathLike, prefix: str | None = None) -> nn.Module:
    """Load every parameter and buffer of ``network`` from a checkpoint and return the network.

    Understood are a bare ``state_dict``, mmengine's ``{'state_dict': …}``, names that begin with ``module.``
    or (a run of ours) ``student.``, and a He-style CIFAR ResNet for a classifier with a ``CifarResNet``. The
    network's parts are marked as initialised, so that mmengine's ``init_weights()`` leaves them alone.

    Args:
        network (nn.Module): What to fill.
        path (str | PathLike): The checkpoint; only tensors and plain data are read from it.
        prefix (str | None): Take only the entries below this name (``'teacher'``). Defaults to None: found
            out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, holds no weights, or holds those of another network (the message
            gives the number of missing and unexpected names and of other shapes, and the first three of
            each).
    """
    state = state_of(load_file(path), path)
    expected = network.state_dict()
    if prefix is not None:
        state = _below(state, prefix, path)
    else:
        state = _unwrapped(state, expected)
    # Checkpoints of before PyTorch 0.4.1 do not count batches; only BN without momentum would read it.
    counters = {k: v for k, v in expected.items() if k.endswith('num_batches_tracked') and k not in state}
    state = {**state, **counters}
    problem = _mismatch(state, expected)
    if problem:
        raise ValueError(f'{path} does not fit {type(network).__name__}: {problem}')
    network.load_state_dict(state)
    for module in network.modules():
        if isinstance(module, BaseModule):
            module.is_init = True
    return network


def state_of(content: object, path: str | PathLike) -> dict[str, Tensor]:
    """Return the state dict that a checkpoint holds, also within mmengine's or a student's wrapping.

    Raises:
        ValueError: It holds none.
    """
    if isinstance(content, Mapping) and {'plan', 'weights'} <= content.keys():
        for key, kind in (('plan', 'recast'), ('widths', 'narrowed')):
            if content.get(key) is not None:
                raise ValueError(f'{path} is a {kind} student with its {key}: read it with mmrecast.apis.load_student')
        content = content['weights']  # trained as it was built
    if isinstance(content, Mapping) and isinstance(content.get('state_dict'), Mapping):
        content = content['state_dict']
    if not isinstance(content, Mapping):
        raise ValueError(f'{path} holds no state_dict, but {type(content).__name__}')
    if not content:
        raise ValueError(f'{path} holds an empty state_dict')
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(f'{path} holds no state_dict: entry {key!r} is {type(value).__name__}, not a tensor')
    return dict(content)


def _below(state: Mapping[str, Tensor], prefix: str, path: str | PathLike) -> dict[str, Tensor]:
    prefix = prefix.rstrip('.')
    below = strip_prefix(state, f'{prefix}.')
    if not below:
        known = ['.'.join(k.split('.')[: prefix.count('.') + 1]) for k in state]
        raise ValueError(f'{path} has nothing below {prefix!r}{nearest(prefix, known)}')
    return below


def _unwrapped(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take away ``module.`` and ``student.``, and rename He-style entries, where the network has no such."""
    if all(k.startswith('module.') for k in state) and not _any_below(expected, 'module.'):
        state = strip_prefix(state, 'module.')
    if _any_below(state, 'student.') and not _any_below(expected, 'student.'):
        state = strip_prefix(state, 'student.')
    if is_he_style(state) and 'backbone.conv1.weight' in expected:
        state = convert_cifar_resnet(state)
    return state


def _any_below(names: Iterable[str], prefix: str) -> bool:
    return any(k.startswith(prefix) for k in names)


def _mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Describe in one line how ``state`` differs from ``expected``; empty if it does not."""
    found = {
        'missing': [f'{k} {_shape(v)}' for k, v in expected.items() if k not in state],
        'unexpected': [f'{k} {_shape(v)}' for k, v in state.items() if k not in expected],
        'of other shape': [
            f'{k} {_shape(v)}, expected {_shape(expected[k])}'
            for k, v in state.items()
            if k in expected and v.shape != expected[k].shape
        ],
    }
    return '; '.join(
        f'{len(entries)} {what}' + (f': {", ".join(entries[:3])}' + (', …' if len(entries) > 3 else ''))
        for what, entries in found.items()
        if entries
    )


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
