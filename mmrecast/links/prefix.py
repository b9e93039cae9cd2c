"""Forward passes that stop at a tap, so that nothing behind it is computed."""

from collections.abc import Callable

from torch import Tensor, nn

from mmrecast.utils.modules import get_module, hooked


class Reached(BaseException):
    """Carries the tap's activation out of the forward pass, past any ``except Exception`` of the network."""

    def __init__(self, output: Tensor | None) -> None:
        super().__init__()
        self.output = output


def run_to(
    network: nn.Module,
    tap: str | None,
    inputs: Tensor,
    read: str | None = None,
    feed: tuple[str, Callable[[Tensor], Tensor]] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Run ``network`` up to and including the module at ``tap``.

    Args:
        network (nn.Module): Images → logits.
        tap (str, optional): Path of the module to stop behind; None runs to the logits.
        inputs (Tensor): (N, C, H, W).
        read (str, optional): Path of a module whose input is returned, too. Defaults to None.
        feed (tuple, optional): (path, function): what the module at this path gets instead of its input, computed from
            it. Defaults to None.

    Returns:
        tuple: The tap's output, and the input read (a copy, since modules may work in place) or None without ``read``.

    Raises:
        KeyError: A path does not exist.
        ValueError: The network does not call the tap.
    """
    seen: list[Tensor] = []
    handles = []

    def stop(module, args, out):
        raise Reached(out)

    with hooked(handles):
        if tap is not None:
            handles.append(get_module(network, tap).register_forward_hook(stop))
        if read is not None:
            note = get_module(network, read).register_forward_pre_hook(lambda m, args: seen.append(args[0].clone()))
            handles.append(note)
        if feed is not None:
            path, function = feed
            handles.append(get_module(network, path).register_forward_pre_hook(lambda m, args: (function(args[0]),)))
        try:
            output = network(inputs)
        except Reached as reached:
            return reached.output, seen[0] if seen else None
    if tap is not None:
        raise ValueError(f'{type(network).__name__} does not call {tap!r} in its forward pass')
    return output, seen[0] if seen else None
