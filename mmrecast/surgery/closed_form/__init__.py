"""The closed-form start: target blocks whose weights are solved for by least squares instead of being drawn.

::

    examples (x, y) ─▶ target ─┬─ code            what to aim at where the target is narrower than its source
                               ├─ first_layers    chosen from data
                               ├─ last_layer      least squares on what the first layers give
                               └─ cut             outputs below 0 and a last ReLU
    code ─▶ fold               what reads a narrow output goes on computing what it did
"""

from mmrecast.surgery.closed_form.before_relu import pre_relu_output
from mmrecast.surgery.closed_form.examples import Examples, evenly, share_kept
from mmrecast.surgery.closed_form.fold import changed_layers, check_foldable, fold, mixes
from mmrecast.surgery.closed_form.parts import parts_of, solvable_of
from mmrecast.surgery.closed_form.target import Start, start_target, stops

__all__ = [
    'Examples',
    'Start',
    'changed_layers',
    'check_foldable',
    'evenly',
    'fold',
    'mixes',
    'parts_of',
    'pre_relu_output',
    'share_kept',
    'solvable_of',
    'start_target',
    'stops',
]
