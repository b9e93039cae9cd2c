"""What the attacks compare runs by finds a single bit."""

import torch
from mmengine.logging import HistoryBuffer
from torture.same import different


def test_one_bit_is_found_and_clocks_are_not():
    def state(**changes):
        values = dict(weight=torch.tensor([1.0, -0.0]), loss=0.1, nan=float('nan'), seconds=1.0)
        history = HistoryBuffer([1.0, 2.0], [1, 1])
        return dict(values | changes, message_hub={'train/loss': history, 'train/time': changes.get('seconds')})

    assert different(state(), state(seconds=2.0)) == []
    assert different(state(), state(weight=torch.tensor([1.0, 0.0]))) == ['.weight']
    assert different(state(), state(weight=torch.tensor([1.0, -0.0], dtype=torch.float64))) == ['.weight']
    assert different(state(), state(loss=0.1 + 2**-56)) == ['.loss']
    assert different(state(), state(more=1)) == ['.keys', '.more']
    other = state()
    other['message_hub']['train/loss'] = HistoryBuffer([1.0, 2.5], [1, 1])
    assert different(state(), other) == ['.message_hub.train/loss.values']
