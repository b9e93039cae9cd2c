"""Two networks with one set of weights: the full one, and a narrow one that uses the first filters of each layer."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from mmrecast.links.prefix import Suffix
from mmrecast.surgery.widths import LayerWidths, Widths, kept_part, narrow
from mmrecast.utils.modules import get_module, hooked, untouched


class AdjoinedPair(nn.Module):
    """A full network and a truly narrow one that shares its weights; every normalisation layer exists twice.

    The small network is a network of its own right: its layers have fewer channels, and its weights are views of the
    full ones (the first filters, on the channels that its inputs keep). Nothing is masked or computed and thrown away,
    and `extract` gives the very network that `forward` runs.

    Args:
        full (nn.Module): Images (N, C, H, W) → logits.
        widths (Widths): What is left of its layers in the small one.
        kernel_mask (float): Share of the places of a kernel that is zero in the small network's narrowed convolutions,
            one random choice for every layer (``masking_factor`` of the authors' code). Defaults to 0.
        suffix (Suffix, optional): What is behind the layers before the first narrowed one. With it those run once for
            both networks, and their normalisation layers are the full network's. Defaults to None.
    """

    def __init__(self, full: nn.Module, widths: Widths, kernel_mask: float = 0.0, suffix: Suffix | None = None) -> None:
        super().__init__()
        self.full = full
        self.kernel_mask = kernel_mask
        self.suffix = suffix
        self.set_widths(widths)

    def set_widths(self, widths: Widths) -> None:
        """Give the small network other widths; its normalisation layers begin as the kept part of the full one's."""
        small = narrow(_copied(self.full), widths)
        once = tuple(f'{path}.' for path in (self.suffix.skipped if self.suffix else ()))
        norms = {
            path: module
            for path, module in small.named_modules()
            if isinstance(module, _NormBase) and not f'{path}.'.startswith(once)
        }
        self.widths = widths
        self.norms = nn.ModuleDict({path.replace('.', '/'): module for path, module in norms.items()})
        own = {f'{path}.{name}' for path, norm in norms.items() for name in _tensors_of(norm)}
        self._shared = [name for name in _tensors_of(small) if name not in own]
        for name in self._shared:  # they are the full network's; in the small one only their names count
            path, _, last = name.rpartition('.')
            module = small.get_submodule(path)  # the network itself for ''
            holder = module._parameters if last in module._parameters else module._buffers
            blank = torch.empty(holder[last].shape, device='meta')
            holder[last] = nn.Parameter(blank, requires_grad=False) if holder is module._parameters else blank
        self.__dict__['_small'] = small  # no submodule: its own parameters are in `norms`
        self._draw_masks()
        self._check_shapes()

    @torch.no_grad()
    def _check_shapes(self) -> None:
        """Run both networks once: a number of channels that is written down in a ``forward`` does not narrow."""
        like = next(self.full.parameters())
        image = torch.zeros(2, *self.widths.input_shape, device=like.device, dtype=like.dtype)
        kind = type(self.full).__name__
        on_gpu_alone = any(isinstance(module, nn.SyncBatchNorm) for module in self.full.modules())
        for training in (False,) if on_gpu_alone else (False, True):
            with untouched(self, training), torch.random.fork_rng(devices=[]):
                full = self.full(image)
                if not isinstance(full, Tensor):
                    raise ValueError(
                        f'{kind} gives {type(full).__name__} in training, a tensor of logits is needed: build it '
                        'without auxiliary heads (aux_logits=False)'
                    )
                try:
                    small = AdjoinedPair.forward(self, image)
                except (RuntimeError, ValueError, IndexError, TypeError) as error:
                    reason = str(error).strip().split('\n')[0]
                    hint = ', or does a head run in training alone (aux_logits=False)' if training else ''
                    raise ValueError(
                        f'{kind} cannot be run with fewer channels (is a number of them written in its code{hint}? '
                        f'exclude= keeps layers as wide as they are): {reason}'
                    ) from error
            if small.shape != full.shape:
                given, wanted = tuple(small.shape), tuple(full.shape)
                raise ValueError(f'{kind} with fewer channels gives {given} in place of {wanted}')

    def _draw_masks(self) -> None:
        for name in [name for name in self._buffers if name.startswith('mask_')]:
            del self._buffers[name]
        self._masks: dict[str, str] = {}
        for path in self.widths.layers if self.kernel_mask else ():
            layer = get_module(self.full, path)
            kernel = getattr(layer, 'kernel_size', (1,))
            zeros = int(self.kernel_mask * kernel[0] * kernel[-1])
            if isinstance(layer, nn.Conv2d) and zeros:
                mask = torch.ones(kernel[0] * kernel[-1])
                mask[torch.randperm(len(mask))[:zeros]] = 0
                self._masks[f'{path}.weight'] = f'mask_{len(self._masks)}'
                self.register_buffer(self._masks[f'{path}.weight'], mask.view(kernel).to(layer.weight))

    def forward(self, images: Tensor, input_masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the small network's logits (N, classes).

        Args:
            images (Tensor): (N, C, H, W).
            input_masks (dict[str, Tensor], optional): By path of a layer, factors for the channels it reads, of those
                it keeps. Defaults to none.
        """
        small = self.__dict__['_small']
        if small.training != self.training:
            own = set(self.norms.values())  # these follow as submodules
            for module in small.modules():
                module.training = module.training if module in own else self.training
        weights = self.small_weights()
        for path, mask in (input_masks or {}).items():
            weight = weights[f'{path}.weight']
            weights[f'{path}.weight'] = weight * mask.view(1, -1, *[1] * (weight.dim() - 2)).to(weight.dtype)
        return functional_call(small, weights, (images,))

    def both(self, images: Tensor, *args) -> tuple[Tensor, Tensor]:
        """Return the logits (N, classes) of the full and of the small network.

        Args:
            images (Tensor): (N, C, H, W).
            *args: As for `forward`.
        """
        if self.suffix is None:
            return self.full(images), self(images, *args)
        seen: list[Tensor] = []

        def note(module: nn.Module, given: tuple, out: Tensor) -> None:
            seen.append(out.clone())  # what follows may work in place

        with hooked([get_module(self.full, self.suffix.path).register_forward_hook(note)]):
            full = self.full(images)
        return full, self.suffix(self.__dict__['_small'], lambda: self(images, *args), seen[0])

    def small_weights(self) -> dict[str, Tensor]:
        """Return what the small network has of the full one's parameters and buffers, as differentiable views."""
        whole = _tensors_of(self.full)
        weights = {}
        for name in self._shared:
            path, _, last = name.rpartition('.')
            kept: LayerWidths | None = self.widths.layers.get(path)
            tensor = whole[name]
            if kept is not None:
                tensor = kept_part(get_module(self.full, path), last, tensor, kept)
            if name in self._masks:
                tensor = tensor * getattr(self, self._masks[name])
            weights[name] = tensor
        return weights

    def extract(self) -> nn.Module:
        """Return the small network as a plain module with weights of its own, in the mode of the full one."""
        small = narrow(_copied(self.full), self.widths)
        values = self.small_weights()
        for path, norm in self.norms.items():
            values |= {f'{path.replace("/", ".")}.{name}': value for name, value in _tensors_of(norm).items()}
        with torch.no_grad():
            for name, tensor in _tensors_of(small).items():
                tensor.copy_(values[name])
        return small


def _copied(network: nn.Module) -> nn.Module:
    """Return a copy; what hooks compute at every call (the old ``weight_norm``) has a graph that cannot be copied."""
    computed = [v for m in network.modules() for v in vars(m).values() if isinstance(v, Tensor) and not v.is_leaf]
    return copy.deepcopy(network, {id(tensor): tensor.detach() for tensor in computed})


def _tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name: one of two modules under both names, a module's under its first name."""
    return {
        f'{path}.{name}' if path else name: tensor
        for path, module in network.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }
