"""Muon for convolutions: steps of equal size in all directions of a kernel, Adam's for everything else."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from numbers import Real

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from mmrecast.registry import OPTIMIZERS

QUINTIC = (3.4445, -4.7750, 2.0315)  # of Jordan et al.: steepest at 0, ends within 0.7 and 1.2


@OPTIMIZERS.register_module()
class MuonWithAuxAdam(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") for convolutions.

    The kernel of a convolution, [outputs, inputs, height, width], is a matrix of [outputs, inputs · height · width]:
    its step is Nesterov's momentum of the gradient with all singular values brought near 1, times
    ``rms · sqrt(max(rows, columns))``, with which one rate serves Muon and Adam (Liu et al. 2025, "Muon is scalable for
    LLM training", Eq. 4). Kernels with one input per output (depthwise ones, too), linear layers, biases and norms take
    the steps of AdamW. Unlike ``torch.optim.Muon``, which takes matrices alone and rounds them to bfloat16, this one
    computes in float32: processors without bfloat16 would take sixteen times as long.

    Args:
        params (Iterable): Parameters, or dicts of them with settings of their own.
        lr (float): Rate of both. Defaults to 1e-3.
        rms (float): Root mean square of a kernel's step over the rate. Defaults to 0.2, what Adam's steps usually have.
        momentum (float): Of Muon. Defaults to 0.95.
        betas (tuple[float, float]): Of Adam. Defaults to (0.9, 0.999).
        eps (float): Of Adam. Defaults to 1e-8.
        weight_decay (float): Of both, times the rate, apart from the gradient. Defaults to 0.
        ns_steps (int): Newton-Schulz iterations. Defaults to 5.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        rms: float = 0.2,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
    ) -> None:
        for name, value, fits in (
            ('lr', lr, lr >= 0),
            ('rms', rms, isinstance(rms, Real) and 0 < rms < math.inf),
            ('momentum', momentum, 0 <= momentum < 1),
            ('betas', betas, all(0 <= beta < 1 for beta in betas)),
            ('eps', eps, eps >= 0),
            ('weight_decay', weight_decay, weight_decay >= 0),
            ('ns_steps', ns_steps, isinstance(ns_steps, int) and ns_steps >= 1),
        ):
            if not fits:
                raise ValueError(f'{name} is out of its range: {value!r}')
        defaults = dict(lr=lr, rms=rms, momentum=momentum, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, defaults | dict(ns_steps=ns_steps))

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Tensor | None:
        """Take one step; return what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [parameter for parameter in group['params'] if parameter.grad is not None]
            self._adam(group, [one for one in trained if not is_kernel(one)])
            alike = defaultdict(list)
            for kernel in filter(is_kernel, trained):
                alike[kernel.shape[0], kernel[0].numel(), kernel.device].append(kernel)
            for kernels in alike.values():
                self._muon(group, kernels)
        return loss

    def _adam(self, group: dict, parameters: list[Tensor]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        for state, parameter in zip(states, parameters, strict=True):
            if not state:
                state['step'] = torch.zeros(())
                state['exp_avg'], state['exp_avg_sq'] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        averages, squares, steps = ([state[name] for state in states] for name in ('exp_avg', 'exp_avg_sq', 'step'))
        (beta1, beta2), rest = group['betas'], {name: group[name] for name in ('lr', 'weight_decay', 'eps')}
        adamw(
            parameters, [parameter.grad for parameter in parameters], averages, squares, [], steps,
            amsgrad=False, beta1=beta1, beta2=beta2, maximize=False, **rest,
        )  # fmt: skip

    def _muon(self, group: dict, kernels: list[Tensor]) -> None:
        """Step with kernels of one shape."""
        updates = orthogonal(torch.stack([self._momentum(group, kernel) for kernel in kernels]), group['ns_steps'])
        scale = group['rms'] * math.sqrt(max(updates.shape[1:]))
        for kernel, update in zip(kernels, updates, strict=True):
            kernel.mul_(1 - group['lr'] * group['weight_decay'])
            kernel.add_(update.view(kernel.shape).to(kernel.dtype), alpha=-group['lr'] * scale)

    def _momentum(self, group: dict, kernel: Tensor) -> Tensor:
        state, rate = self.state[kernel], group['momentum']
        if not state:
            state['momentum_buffer'] = torch.zeros_like(kernel)
        buffer = state['momentum_buffer'].lerp_(kernel.grad, 1 - rate)
        return kernel.grad.lerp(buffer, rate).flatten(1).float()


def is_kernel(parameter: Tensor) -> bool:
    """Tell whether a parameter is a convolution's kernel that mixes inputs."""
    return parameter.ndim > 2 and parameter.shape[1] > 1


def orthogonal(matrices: Tensor, steps: int) -> Tensor:
    """Bring all singular values of matrices near 1 by Newton-Schulz iterations.

    Args:
        matrices (Tensor): [number, rows, columns], of any scale.
        steps (int): Iterations; 5 bring what is above a hundredth of the norm to between 0.7 and 1.2.

    Returns:
        Tensor: [number, rows, columns]; zero where a matrix is.
    """
    upright = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if upright else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = QUINTIC
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if upright else x
