"""Features in float64 and a check of gradients, for the tests of losses between features."""

import torch
from torch import Tensor


def feature(seed: int, *shape: int) -> Tensor:
    """Return normally distributed numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_gradient(loss, s: Tensor, t: Tensor, to_teacher: bool = False) -> None:
    """Compare the student's gradient with central differences in one direction; the teacher has one only if it should.

    Args:
        loss (Callable): (s, t) → scalar.
        s, t (Tensor): What it compares, float64.
        to_teacher (bool): Whether the gradient goes to the teacher's side, too. Defaults to False.
    """
    s, t = s.clone().requires_grad_(), t.clone().requires_grad_()
    loss(s, t).backward()
    for x, moved in ((s, lambda h: (s + h, t)), (t, lambda h: (s, t + h))):
        if x is t and not to_teacher:
            assert t.grad is None
            continue
        step = 1e-6 * feature(99, *x.shape)
        with torch.no_grad():
            rise = loss(*moved(step)) - loss(*moved(-step))
        expected = rise.item() / 2
        assert abs(expected) > 1e-12
        torch.testing.assert_close((x.grad * step).sum().item(), expected, rtol=1e-5, atol=0)
