"""How networks are run while their latency is measured: device, precision, memory layout, compiler, folded BN."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmrecast.analysis.fold_bn import Folding, fold_bn
from mmrecast.utils.names import nearest

DTYPES = dict(float32=torch.float32, bfloat16=torch.bfloat16, float16=torch.float16)


@dataclass(frozen=True)
class LatencySettings:
    """What holds for all networks of a comparison alike; checked when made.

    Args:
        device (str): ``'cpu'``, ``'cuda'``, ``'cuda:1'``. Defaults to ``'cpu'``.
        dtype (str): 'float32', 'bfloat16' or 'float16', of weights, BN statistics and images. Defaults to 'float32'.
        channels_last (bool): Whether weights and images are laid out (N, H, W, C) in memory. Defaults to False.
        compile (bool): Whether the networks go through ``torch.compile``. Defaults to False.
        fuse_bn (bool): Whether BN is folded into the convolution before it, where that is exact. Defaults to False.
        threads (int, optional): PyTorch's threads on the CPU. Defaults to None: as they are set.

    Raises:
        ValueError: A device that is not there, an unknown dtype or one that this CPU has no convolutions for, or fewer
            than one thread.
    """

    device: str = 'cpu'
    dtype: str = 'float32'
    channels_last: bool = False
    compile: bool = False
    fuse_bn: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(
                f'dtype must be one of {", ".join(DTYPES)}, got {self.dtype!r}{nearest(str(self.dtype), DTYPES)}'
            )
        if self.threads is not None and self.threads < 1:
            raise ValueError(f'threads must be at least 1, got {self.threads}')
        _check_device(self.device)
        if torch.device(self.device).type == 'cpu':
            _check_cpu_precision(self.dtype)

    def images(self, batch_size: int, input_shape: Sequence[int]) -> Tensor:
        """Return random images (N, C, H, W) as these settings want them."""
        images = torch.rand(batch_size, *input_shape, generator=torch.Generator().manual_seed(0))
        images = images.to(self.device, DTYPES[self.dtype])
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def place(self, network: nn.Module, input_shape: Sequence[int]) -> tuple[nn.Module, Folding | None]:
        """Return the network as these settings want it: a copy, unless it is so already; and what was folded."""
        dtype, device = DTYPES[self.dtype], torch.device(self.device)
        tensors = [*network.parameters(), *network.buffers()]
        there = all(_same_device(t.device, device) for t in tensors)
        fitting = there and all(t.dtype == dtype for t in tensors if t.is_floating_point())
        folding = None
        if fitting and not (self.fuse_bn or self.channels_last or self.compile):
            return network, None
        network = deepcopy(network)
        if self.fuse_bn:  # before it loses precision
            folding = fold_bn(network, input_shape)
        network.to(device, dtype)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        return network, folding

    @contextmanager
    def applied(self, networks: Sequence[nn.Module]) -> Iterator[int]:
        """Put the networks in eval mode, without gradients, on so many threads (yielded); undone on leaving."""
        threads, tuned = torch.get_num_threads(), torch.backends.cudnn.benchmark
        modes = [(module, module.training) for network in networks for module in network.modules()]
        for module, _ in modes:
            module.training = False
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        torch.backends.cudnn.benchmark = True  # the fastest algorithm for each layer, of all networks alike
        try:
            with torch.inference_mode(), self._compiler(len(networks)):
                yield torch.get_num_threads()
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.benchmark = tuned
            for module, mode in modes:
                module.training = mode

    def compiled(self, networks: dict[str, nn.Module]) -> dict[str, nn.Module]:
        """Return the networks, through ``torch.compile`` if that is asked for; each is compiled by its first pass."""
        if not self.compile:
            return networks
        return {name: torch.compile(network, dynamic=False) for name, network in networks.items()}

    @contextmanager
    def _compiler(self, networks: int) -> Iterator[None]:
        """Make room for so many networks: those of one class share a cache, and past its limit are not compiled."""
        if not self.compile:
            yield
            return
        torch.compiler.reset()
        with torch._dynamo.config.patch(recompile_limit=max(8, 4 * networks)):
            yield

    @property
    def text(self) -> str:
        """str: ``'bfloat16 on cpu, channels_last, BN folded'``."""
        parts = [f'{self.dtype} on {self.device}']
        parts += ['channels_last'] * self.channels_last + ['compiled'] * self.compile + ['BN folded'] * self.fuse_bn
        return ', '.join(parts)


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {name!r}")
    if device.type == 'cpu':
        return
    if not torch.cuda.is_available():
        raise ValueError(f'device {name!r} was asked for, but PyTorch sees no GPU here; use cpu')
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        last = 'cuda:0 alone' if count == 1 else f'cuda:0 to cuda:{count - 1}'
        raise ValueError(f'device {name!r} was asked for, but PyTorch sees {count} GPU(s) here: {last}')


def _check_cpu_precision(dtype: str) -> None:
    """Refuse a precision that PyTorch would emulate: that takes a hundred times as long and says nothing."""
    if dtype == 'float32' or not torch.backends.mkldnn.is_available():
        return
    native = torch.ops.mkldnn
    has = native._is_mkldnn_bf16_supported if dtype == 'bfloat16' else native._is_mkldnn_fp16_supported
    if not has():
        raise ValueError(f'{dtype} is not supported by the convolutions of this CPU: use float32, or a GPU')


def _same_device(one: torch.device, other: torch.device) -> bool:
    current = torch.cuda.current_device() if other.type == 'cuda' and other.index is None else other.index
    return one.type == other.type and (one.type == 'cpu' or one.index == current)
