"""The student of a recipe, untrained: what KD and back propagation train from scratch."""

from collections.abc import Mapping, Sequence

from torch import nn

from mmrecast.models import untrained
from mmrecast.registry import MODELS
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.student_file import Origin, build_source
from mmrecast.utils.modules import xavier_init


@MODELS.register_module(name='RecastStudent')
def recast_student(
    source: dict | str | nn.Module, recipe: Sequence[dict], input_shape: Sequence[int] = (3, 32, 32)
) -> nn.Module:
    """Build the network that recasting ``source`` by ``recipe`` ends with, Xavier-initialised.

    Args:
        source (dict | str | nn.Module): The source network, as for :class:`Distiller`; its weights do not matter. A
            module is changed in place.
        recipe (list[dict]): See ``surgery.plan.make_plan``.
        input_shape (tuple[int]): (C, H, W). Defaults to (3, 32, 32).

    Returns:
        nn.Module: The network, with its ``origin`` (:class:`Origin`) for `save_student`.

    Raises:
        ValueError: The recipe cannot be carried out.
    """
    # Its weights would be fetched, and drawn anew here.
    network, constructor = build_source(untrained(source) if isinstance(source, Mapping) else source)
    plan = make_plan(network, recipe, tuple(input_shape))
    xavier_init(check_plan(network, plan))
    network.origin = Origin(constructor, plan)
    return network
