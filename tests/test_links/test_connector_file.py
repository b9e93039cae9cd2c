"""Files of connectors that say something else than a run writes."""

import pytest
import torch
from torch import nn

from mmrecast.links.connector_file import FORMAT, load_connector


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (dict(format='x'), 'is no file of a connector'),
        (dict(format=FORMAT), 'does not fit: '),
        (dict(format=FORMAT, weights=[1], teacher=None), 'does not fit: '),
        (dict(format=FORMAT, weights={1: 2}, teacher=None), 'does not fit: '),
        (dict(format=FORMAT, weights={}, teacher=None), 'does not fit: .*Missing key'),
        (dict(format=FORMAT, weights={}, teacher=['x']), 'was trained on another teacher'),
    ],
)
def test_files_that_do_not_fit(content, said, tmp_path):
    torch.save(content, tmp_path / 'c.pth')
    with pytest.raises(ValueError, match=f"^connector 'coder': .*c.pth {said}") as caught:
        load_connector(nn.Linear(2, 2), str(tmp_path / 'c.pth'), 'coder', nn.Linear(1, 1))
    assert '\n' not in str(caught.value)
