"""Choose which width groups of a network narrow, and by which divisors."""

from collections.abc import Mapping, Sequence

from mmrecast.surgery.chain import match
from mmrecast.surgery.channel_graph import OUTPUT, ChannelGraph, Layer, WidthGroup, size
from mmrecast.utils.names import nearest

RULES = ('auto', 'basic', 'bottleneck')


def adjoined_groups(graph: ChannelGraph, above: int = 64, rule: str = 'auto', exclude: Sequence[str] = ()) -> list[str]:
    """Return the names of the width groups that a rule narrows: stem and first stage stay as wide as they are.

    A group is adjoined if all its convolutions (depthwise ones aside) have more than ``above`` filters and, with
    'bottleneck', one of them at least reads more than ``above`` channels (arXiv 2006.05624 and its code, which look at
    each convolution alone; in its networks that is the same).

    Args:
        graph (ChannelGraph): Of the network.
        above (int): Number of channels up to which a layer keeps its width. Defaults to 64.
        rule (str): 'basic', 'bottleneck' or 'auto': 'bottleneck' where at least half of the convolutions are 1x1.
            Defaults to 'auto'.
        exclude (Sequence[str]): Patterns of modules whose layers keep their width, with all that is tied to them.

    Raises:
        ValueError: An argument is out of range, a pattern matches nothing, or nothing is left to adjoin.
    """
    if rule not in RULES:
        raise ValueError(f'rule must be one of {", ".join(RULES)}, got {rule!r}{nearest(str(rule), RULES)}')
    if isinstance(above, bool) or not isinstance(above, int) or above < 0:
        raise ValueError(f'above must be a whole number of channels, at least 0, got {above!r}')
    convs = {path: layer for path, layer in graph.layers.items() if layer.kind == 'conv' and not layer.depthwise}
    if rule == 'auto':
        rule = 'bottleneck' if 2 * sum(layer.kernel == 1 for layer in convs.values()) >= len(convs) else 'basic'
    left_out = _all_in(graph, exclude)
    chosen, fixed, excluded = [], [], []
    for group in graph.groups.values():
        own = [convs[path] for path in group.layers if path in convs]
        wide = own and all(size(conv.outputs) > above for conv in own)
        wide = wide and (rule == 'basic' or any(size(conv.inputs) > above for conv in own))
        if wide and group.fixed != OUTPUT:
            (excluded if left_out & set(group.layers) else fixed if group.fixed else chosen).append(group)
    if not chosen:
        raise ValueError(f'no layer to adjoin: {_why_none(convs, above, rule, fixed, excluded)}')
    return [group.name for group in chosen]


def _why_none(
    convs: Mapping[str, Layer], above: int, rule: str, fixed: list[WidthGroup], excluded: list[WidthGroup]
) -> str:
    if not convs:
        return 'the network has no convolution whose channels could be followed'
    if fixed:
        wide = '1 group is' if len(fixed) == 1 else f'{len(fixed)} groups are'
        return f'{wide} wide enough but cannot narrow; {fixed[0].name!r} is held: {fixed[0].fixed}'
    if excluded:
        return 'exclude leaves none'
    widest = max(convs.values(), key=lambda layer: size(layer.outputs))
    both, other = ('read and give', " or rule='basic'") if rule == 'bottleneck' else ('give', '')
    return (
        f'a group narrows where its convolutions {both} more than {above} channels, but the widest here, '
        f'{widest.path!r}, has {size(widest.inputs)} → {size(widest.outputs)}: set above= lower{other}'
    )


def divisors_for(
    graph: ChannelGraph,
    alpha: int | Mapping[str, int],
    above: int = 64,
    rule: str = 'auto',
    exclude: Sequence[str] = (),
) -> dict[str, int]:
    """Return by which divisor each adjoined group narrows.

    Args:
        graph (ChannelGraph): Of the network.
        alpha (int | dict[str, int]): The divisor of every group the rule adjoins; or divisors by pattern of modules
            (``{'layer3': 4, 'layer4.*': 8}``), which choose the groups in place of the rule.
        above, rule, exclude: See `adjoined_groups`.

    Returns:
        dict[str, int]: By name of the group.

    Raises:
        ValueError: A divisor is no whole number of at least 1, does not divide a width, leaves no channel, or groups
            that narrow together are given different ones.
    """
    if not isinstance(alpha, Mapping):
        divisors = dict.fromkeys(adjoined_groups(graph, above, rule, exclude), alpha)
    else:
        divisors = _by_pattern(graph, alpha, _all_in(graph, exclude))
    for name, divisor in divisors.items():
        check_divisor(graph.groups[name], divisor)
    return divisors


def _by_pattern(graph: ChannelGraph, alpha: Mapping[str, int], left_out: set[str]) -> dict[str, int]:
    if not alpha:
        raise ValueError("alpha names no layer: give one number for all, or alpha={'layer3.*': 4, …}")
    group_of = {path: group for group in graph.groups.values() for path in group.layers}
    asked: dict[str, tuple[str, int]] = {}  # group → the layer that asked first, its divisor
    for pattern, divisor in alpha.items():
        paths = _layers_in(graph, pattern)
        free = [path for path in paths if path in group_of and not group_of[path].fixed]
        if not free:
            held = next((group_of[path] for path in paths if path in group_of), None)
            why = f'{held.name!r} is held: {held.fixed}' if held else 'it holds no convolution or fully connected layer'
            raise ValueError(f'alpha of {pattern!r} cannot be: {why}')
        for path in free:
            group = group_of[path]
            out = next((other for other in group.layers if other in left_out), None)
            if out is not None:
                raise ValueError(
                    f'{path!r} cannot narrow (alpha of {pattern!r}): {out!r}, which is excluded, is tied to it'
                )
            first, earlier = asked.setdefault(group.name, (path, divisor))
            if earlier != divisor and first == path:
                raise ValueError(f'two patterns of alpha name {path!r}: it cannot be {earlier} and {divisor}')
            if earlier != divisor:
                raise ValueError(
                    f'{first!r} and {path!r} narrow together (a sum, a product or a grouped convolution ties them): '
                    f'alpha cannot be {earlier} for one and {divisor} for the other'
                )
    return {name: divisor for name, (_, divisor) in asked.items()}


def check_divisor(group: WidthGroup, divisor: object, what: str = 'alpha') -> None:
    """Check that a group can be narrowed by ``divisor``.

    Raises:
        ValueError: It cannot.
    """
    if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
        raise ValueError(f'{what} must be a whole number of at least 1, got {divisor!r}')
    for number in group.multiples:
        if number % divisor == 0:
            continue
        things = 'channels' if number in group.widths else 'groups (of a grouped convolution)'
        fault = (
            f'leaves none of the {number} {things}' if divisor > number else f'does not divide the {number} {things}'
        )
        fitting = [d for d in range(2, min(group.multiples) + 1) if all(n % d == 0 for n in group.multiples)]
        known = f'possible here: {", ".join(map(str, fitting[:8]))}' if fitting else 'nothing but 1 does'
        more = f' and {len(group.layers) - 1} more tied to it' if len(group.layers) > 1 else ''
        raise ValueError(f'{what}={divisor} {fault} of {group.name!r}{more}; {known}, or exclude=[{group.name!r}]')


def _layers_in(graph: ChannelGraph, pattern: object) -> list[str]:
    """Return the layers at or below the modules that a pattern selects."""
    if not isinstance(pattern, str):
        raise ValueError(f'a pattern of modules is a text like "layer3.*", got {pattern!r}')
    modules = {'.'.join(path.split('.')[:n]) for path in graph.layers for n in range(1, path.count('.') + 2)}
    found = set(match(pattern, sorted(modules)))
    return [path for path in graph.layers if any(path == one or path.startswith(f'{one}.') for one in found)]


def _all_in(graph: ChannelGraph, patterns: str | Sequence[str]) -> set[str]:
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return {path for pattern in patterns for path in _layers_in(graph, pattern)}
