"""An adjoined pair whose widths are still open: every group of layers chooses among divisors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmrecast.algorithms.adjoined_pair import AdjoinedPair
from mmrecast.links.prefix import Suffix
from mmrecast.surgery.channel_graph import ChannelGraph
from mmrecast.surgery.widths import widths_of


class SearchedPair(AdjoinedPair):
    """A pair whose small network mixes widths by learned probabilities until it is settled.

    A layer that reads a group's channels has its weights multiplied, channel by channel, with the probability that the
    channel is kept: Σ_i g_i · prefix_i of DAN, taken where the channels are read, behind the normalisation that would
    undo a factor before it. With one certain choice per group this is the narrow network itself.

    Args:
        full (nn.Module): Images (N, C, H, W) → logits.
        graph (ChannelGraph): Its channels.
        names (Sequence[str]): The width groups that choose.
        divisors (Sequence[int]): Among these.
        kernel_mask, suffix: See :class:`AdjoinedPair`.
    """

    def __init__(
        self,
        full: nn.Module,
        graph: ChannelGraph,
        names: Sequence[str],
        divisors: Sequence[int],
        kernel_mask: float = 0.0,
        suffix: Suffix | None = None,
    ) -> None:
        super().__init__(full, widths_of(graph, dict.fromkeys(names, min(divisors))), kernel_mask, suffix)
        self.graph, self.names, self.divisors = graph, tuple(names), tuple(divisors)
        self.width_logits = nn.Parameter(torch.zeros(len(names), len(divisors)))  # one row per group
        self.settled: dict[str, int] | None = None
        index = {name: i for i, name in enumerate(names)}
        self._readers = {
            path: [(index.get(part.group), part.width, part.repeat) for part in layer.inputs]
            for path, layer in graph.layers.items()
            if layer.kind != 'norm' and layer.groups == 1 and any(part.group in index for part in layer.inputs)
        }
        for width in {width for parts in self._readers.values() for i, width, _ in parts if i is not None}:
            kept = torch.arange(width // min(divisors)) < width // torch.tensor(divisors)[:, None]
            self.register_buffer(f'prefix_{width}', kept.float(), persistent=False)  # (divisors, channels)

    def sample(self, tau: float) -> Tensor:
        """Return probabilities (groups, divisors): a Gumbel-softmax of the logits, with noise drawn now."""
        noise = -torch.empty_like(self.width_logits).exponential_().log()
        return ((self.width_logits + noise) / tau).softmax(1)

    def forward(self, images: Tensor, probabilities: Tensor | None = None) -> Tensor:
        """Return the small network's logits (N, classes).

        Args:
            images (Tensor): (N, C, H, W).
            probabilities (Tensor, optional): (groups, divisors). Defaults to None: the likeliest choice, for certain.
        """
        if self.settled is not None:
            return super().forward(images)
        if probabilities is None:
            best = self.width_logits.argmax(1)
            probabilities = torch.zeros_like(self.width_logits).scatter_(1, best[:, None], 1.0)
        return super().forward(images, self._input_masks(probabilities))

    def _input_masks(self, probabilities: Tensor) -> dict[str, Tensor]:
        shares: dict[tuple[int, int], Tensor] = {}
        masks = {}
        for path, parts in self._readers.items():
            pieces = []
            for i, width, repeat in parts:
                if i is None:
                    pieces.append(probabilities.new_ones(width * repeat))
                    continue
                if (i, width) not in shares:
                    shares[i, width] = probabilities[i] @ getattr(self, f'prefix_{width}').to(probabilities.dtype)
                pieces.append(shares[i, width].repeat_interleave(repeat) if repeat > 1 else shares[i, width])
            masks[path] = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        return masks

    def choice(self) -> dict[str, int]:
        """Return the likeliest divisor of every group."""
        return {
            name: self.divisors[i] for name, i in zip(self.names, self.width_logits.argmax(1).tolist(), strict=True)
        }

    def settle(self, choice: Mapping[str, int]) -> None:
        """Give every group the divisor chosen, for good."""
        self.set_widths(widths_of(self.graph, choice))
        self.settled = dict(choice)
        self.width_logits.requires_grad_(False)
