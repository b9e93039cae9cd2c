"""The layers in front of the one that is solved, chosen from data.

Three ways, of which the caller keeps the one that leaves the smallest residual:

* ``teacher``: the filters of the block that stood here, where it has a convolution of that kind on the same input; of
  more filters than are needed those that contribute most to the output.
* ``signs``: the directions of the input that predict the output best, each with both signs, so that no ReLU loses what
  it carries: a = ReLU(a) − ReLU(−a).
* ``shifted``: twice as many directions, each shifted up so far that the ReLU hardly cuts it.

A depthwise convolution has one direction per channel: the filter that predicts most of the output.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmrecast.blocks.solvable import Layer, Solvable
from mmrecast.surgery.closed_form.examples import Examples
from mmrecast.surgery.closed_form.last_layer import Wanted
from mmrecast.surgery.closed_form.least_squares import Fit, LeastSquares
from mmrecast.surgery.closed_form.parts import inputs_of
from mmrecast.surgery.closed_form.patches import Sampler, patch_size, patches, rows
from mmrecast.surgery.spans import find_spans

OFFSETS = dict(signs=(0.0, 1.0, -1.0), shifted=(2.0,))  # in standard deviations; a further one once directions run out
DEPTHWISE = dict(signs=(0.0,), shifted=(2.0,))


@torch.no_grad()
def first_layers(
    block: nn.Module, spec: Solvable, examples: Examples, wanted: Wanted, ridge: float, old: nn.Module | None
) -> Iterator[str]:
    """Set the hidden layers of ``spec`` in one way after another; yield the name of each once it is done.

    Args:
        block (nn.Module): The target block, in eval mode.
        spec (Solvable): Its parts, some of them hidden.
        examples (Examples): What it is solved on.
        wanted (Callable): See :func:`~mmrecast.surgery.closed_form.last_layer.solve_last`.
        ridge (float): Damping.
        old (nn.Module, optional): The block that stood here, reading the same input.
    """
    set_other_norms(block, spec, examples, old)
    if old is not None and _copy_filters(block, spec, examples, wanted, ridge, old):
        yield 'teacher'
    first = None
    for way in OFFSETS:
        for i, (conv, norm) in enumerate(spec.hidden):
            fit = first if i == 0 and first is not None else _predict(block, spec, conv, examples, wanted, ridge)
            first = fit if i == 0 else first
            set_directions(conv, norm, fit, way)
        yield way


def set_other_norms(block: nn.Module, spec: Solvable, examples: Examples, old: nn.Module | None) -> None:
    """Set the norms that stand in front of all that is solved or chosen.

    They become those of the block that stood here where it has such; else they take their statistics from data and
    lift what they give by one standard deviation, since a ReLU follows them.
    """
    listed = {id(norm) for _, norm in (*spec.terms, *spec.hidden)}
    theirs = dict(old.named_modules()) if type(old) is type(block) else {}
    for path, norm in block.named_modules():
        if not isinstance(norm, nn.BatchNorm2d) or id(norm) in listed or not norm.track_running_stats:
            continue
        other = theirs.get(path)
        if other is not None and other.num_features == norm.num_features:
            norm.load_state_dict(other.state_dict())
            continue
        read = torch.cat([rows(inputs_of(block, [norm], x)[0]) for x in examples.x]).double()
        norm.reset_running_stats()
        norm.running_mean.copy_(read.mean(0))
        norm.running_var.copy_(read.var(0, correction=0))
        if norm.affine:
            norm.weight.fill_(1)
            norm.bias.fill_(1)


def _predict(
    block: nn.Module, spec: Solvable, conv: nn.Conv2d, examples: Examples, wanted: Wanted, ridge: float
) -> Fit:
    """Regress what is wanted on the patches of all channels that a hidden convolution could see."""
    inputs = patch_size(conv)
    sums, sampler = None, Sampler(examples.positions, inputs, examples.map_size)
    for x, y in examples.chunks(inputs):
        t = wanted(y) if spec.skip is None else wanted(y) - spec.skip(x)
        read = inputs_of(block, [conv], x)[0]
        every = max(1, round(read.shape[2] / conv.stride[0] / t.shape[2]))  # layers behind it may have a stride
        u = patches(conv, read, every)
        sums = sums or LeastSquares(inputs, t.shape[1], x.device)
        if len(u) != t.shape[0] * t[0, 0].numel():
            raise ValueError(
                f'{type(block).__name__}.solvable(): a hidden convolution sees {len(u) // len(t)} positions of a map '
                f"where the block's output has {t[0, 0].numel()}; use 'xavier'"
            )
        sums.add(*sampler(u, rows(t)))
    return sums.solve(ridge)


def set_directions(conv: nn.Conv2d, norm: nn.BatchNorm2d, fit: Fit, way: str) -> None:
    """Set a hidden layer from a regression of the output on all that it sees."""
    count = conv.out_channels
    if conv.groups > 1:
        kernel = conv.kernel_size[0] * conv.kernel_size[1]
        filters = [_filter_of_channel(fit, slice(i * kernel, (i + 1) * kernel)) for i in range(conv.groups)]
        weight = torch.zeros(count, fit.weight.shape[1], dtype=torch.float64, device=fit.weight.device)
        per_channel = count // conv.groups
        for j in range(count):
            channel = j // per_channel
            sign = -1 if j % per_channel % 2 else 1
            weight[j, channel * kernel : (channel + 1) * kernel] = sign * filters[channel]
        offset = torch.full((count,), DEPTHWISE[way][0], dtype=torch.float64)
        kernels = torch.stack([weight[j, (j // per_channel) * kernel :][:kernel] for j in range(count)])
    else:
        directions = fit.leading(count).T @ fit.weight  # (rank, inputs)
        signs = (1, -1) if way == 'signs' else (1,)
        j = torch.arange(count)
        directions = directions[: -(-count // len(signs))]
        index, turn = (j // len(signs)) % len(directions), (j // len(signs)) // len(directions)
        sign = torch.tensor(signs, dtype=torch.float64)[j % len(signs)].to(directions.device)
        weight = kernels = directions[index.to(directions.device)] * sign[:, None]
        offset = torch.tensor(OFFSETS[way], dtype=torch.float64)[turn % len(OFFSETS[way])]
    conv.weight.copy_(kernels.view_as(conv.weight))
    if conv.bias is not None:
        conv.bias.zero_()
    norm.reset_running_stats()
    norm.running_mean.copy_(weight @ fit.mean_u)
    norm.running_var.copy_(((weight @ fit.cov) * weight).sum(1).clamp_min(0))
    norm.weight.fill_(1)
    norm.bias.copy_(offset)


def _filter_of_channel(fit: Fit, own: slice) -> Tensor:
    """Return the filter d (kernel,) of unit variance for which d·u of one channel predicts most of what W·u does."""
    values, vectors = torch.linalg.eigh(fit.cov[own, own])
    values = values.clamp_min(1e-9 * values[-1].clamp_min(1e-12))
    root = (vectors * values.sqrt()) @ vectors.T
    inverse = (vectors / values.sqrt()) @ vectors.T
    share = fit.weight[:, own] @ root
    direction = torch.linalg.eigh(share.T @ share)[1][:, -1]
    direction = inverse @ direction
    return direction * (1.0 if direction.sum() >= 0 else -1.0)  # eigenvectors have no sign of their own


def _copy_filters(
    block: nn.Module, spec: Solvable, examples: Examples, wanted: Wanted, ridge: float, old: nn.Module
) -> bool:
    """Copy the layers of ``old`` that match the hidden ones, and tell whether there are such."""
    found = _matching(block, spec, old, examples.x[0][:2])
    if found is None:
        return False
    for (conv, norm), (theirs, their_norm) in zip(spec.hidden, found, strict=True):
        kept = slice(None)
        if theirs.out_channels > conv.out_channels:
            kept = _most_useful(spec, examples, wanted, ridge, old, (theirs, their_norm))[: conv.out_channels]
        conv.weight.copy_(theirs.weight[kept])
        if conv.bias is not None:
            conv.bias.zero_()
        bias = 0 if theirs.bias is None else theirs.bias[kept]
        norm.reset_running_stats()
        norm.running_mean.copy_(their_norm.running_mean[kept] - bias)
        norm.running_var.copy_(their_norm.running_var[kept])
        scale = ((norm.running_var + norm.eps) / (norm.running_var + their_norm.eps)).sqrt()
        norm.weight.copy_(their_norm.weight[kept] * scale)
        norm.bias.copy_(their_norm.bias[kept])
    return True


def _matching(block: nn.Module, spec: Solvable, old: nn.Module, x: Tensor) -> list[Layer] | None:
    """Return a (convolution, norm) of ``old`` for each hidden layer; one that is alone may have more filters."""
    convs = {path: m for path, m in old.named_modules() if isinstance(m, nn.Conv2d)}
    read = inputs_of(block, [spec.hidden[0][0]], x)[0]
    alike = {
        path
        for path, read_too in zip(convs, inputs_of(old, list(convs.values()), x), strict=True)
        if read_too.shape == read.shape and torch.equal(read_too, read)
    }
    spans = find_spans(old, convs, x)
    found, paths = [], iter(convs)
    for conv, _ in spec.hidden:
        for path in paths:
            theirs, behind = convs[path], spans.get(path, ())
            same = all(
                getattr(conv, k) == getattr(theirs, k)
                for k in ('in_channels', 'kernel_size', 'stride', 'padding', 'groups', 'padding_mode', 'dilation')
            )
            enough = theirs.out_channels == conv.out_channels or (
                len(spec.hidden) == 1 and conv.groups == 1 and theirs.out_channels > conv.out_channels
            )
            norm = old.get_submodule(behind[0]) if behind else None
            usable = isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.track_running_stats
            if same and enough and usable and (found or path in alike):
                found.append((theirs, norm))
                break
        else:
            return None
    return found


def _most_useful(
    spec: Solvable, examples: Examples, wanted: Wanted, ridge: float, old: nn.Module, layer: Layer
) -> Tensor:
    """Return the filters of a layer of ``old`` by what they contribute to the output, the most useful first."""
    (theirs, norm), last = layer, spec.terms[0][0]
    kernel = last.kernel_size[0] * last.kernel_size[1]
    sums, sampler = None, Sampler(examples.positions, theirs.out_channels * kernel, examples.map_size)
    for x, y in examples.chunks(theirs.out_channels * kernel):
        t = wanted(y) if spec.skip is None else wanted(y) - spec.skip(x)
        sums = sums or LeastSquares(theirs.out_channels * kernel, t.shape[1], x.device)
        hidden = norm(theirs(inputs_of(old, [theirs], x)[0])).relu()
        sums.add(*sampler(patches(last, hidden), rows(t)))
    fit = sums.solve(ridge)
    share = []
    for i in range(0, theirs.out_channels * kernel, kernel):
        weight, cov = fit.weight[:, i : i + kernel], fit.cov[i : i + kernel, i : i + kernel]
        share.append(((weight @ cov) * weight).sum())
    return torch.stack(share).argsort(descending=True, stable=True)
