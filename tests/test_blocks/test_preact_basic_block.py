import numpy as np
import pytest
from torch import nn

from mmrecast.blocks import PreActBasicBlock


def expected(naive, block, x, project):
    active = naive.relu(naive.norm(x, block.bn1))
    out = naive.conv(naive.relu(naive.norm(naive.conv(active, block.conv1), block.bn2)), block.conv2)
    return out + (naive.conv(active, block.shortcut) if project else x)


@pytest.mark.parametrize(('out_channels', 'stride'), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_it_computes_what_the_paper_says(naive, out_channels, stride):
    block = naive.randomised(PreActBasicBlock(3, out_channels, stride))
    x = naive.image(3)
    project = out_channels != 3 or stride != 1
    assert isinstance(block.shortcut, nn.Conv2d) == project
    assert np.allclose(block(x)[0].detach().numpy(), expected(naive, block, x[0].numpy(), project), atol=1e-12)


def test_its_output_is_the_plain_sum_and_may_be_negative(naive):
    block = naive.randomised(PreActBasicBlock(3, 3))
    assert block(naive.image(3)).min() < 0


def test_the_inner_width_and_dropout_are_arguments():
    block = PreActBasicBlock(4, 8, mid_channels=6, dropout=0.3)
    assert (block.conv1.out_channels, block.conv2.in_channels, block.dropout.p) == (6, 6, 0.3)


@pytest.mark.parametrize('dropout', [-0.1, 1, 1.5])
def test_dropout_is_a_probability(dropout):
    with pytest.raises(ValueError, match=rf'dropout must be in \[0, 1\), got {dropout}'):
        PreActBasicBlock(4, 4, dropout=dropout)
