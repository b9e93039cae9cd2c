import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock as TorchvisionBasicBlock

from mmrecast.blocks import BasicBlock, Bottleneck
from mmrecast.surgery.closed_form import pre_relu_output


class NoReLU(nn.Module):
    """Ends with a sum, as a block of a pre-activation network does; begins with a ReLU in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(F.relu(x, inplace=True)) - 1


def residual_sum(block, x, shortcut):
    out = block.bn1(block.conv1(x)).relu()
    return block.bn2(block.conv2(out)) + shortcut(x)


def test_before_the_last_relu():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    theirs = TorchvisionBasicBlock(4, 4).eval()  # one ReLU, in place, used twice
    ours = BasicBlock(4, 4).eval()
    with torch.no_grad():
        for block in (theirs, ours):
            expected = residual_sum(block, x, lambda x: x)
            found, ends = pre_relu_output(block, x)
            assert ends
            torch.testing.assert_close(found, expected)
            assert found.min() < 0 and torch.equal(found.relu(), block(x))


@pytest.mark.parametrize('relu', [nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, torch.relu_, F.relu_])
def test_every_form_of_relu_is_seen(relu):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = relu if isinstance(relu, nn.Module) else (lambda x: relu(x))

        def forward(self, x):
            return self.relu(x * 2)

    x = torch.randn(2, 3)
    found, ends = pre_relu_output(Block(), x)
    assert ends and torch.equal(found, x * 2)


def test_methods_and_what_follows_without_effect():
    x = torch.randn(2, 3)
    method = type('M', (nn.Module,), dict(forward=lambda s, x: (x + 1).relu()))()
    assert torch.equal(pre_relu_output(method, x)[0], x + 1)
    block = nn.Sequential(nn.ReLU(), nn.Dropout()).eval()
    found, ends = pre_relu_output(block, x)
    assert ends and torch.equal(found, x)


def test_without_a_last_relu_the_output_comes_and_the_input_stays():
    torch.manual_seed(0)
    block, x = NoReLU(), torch.randn(2, 4, 6, 6)
    kept = x.clone()
    found, ends = pre_relu_output(block, x)
    assert torch.equal(x, kept)
    assert not ends and torch.equal(found, block(kept).detach())
    inner = Bottleneck(4, 16).eval()
    inner.relu = nn.Identity()
    x = torch.randn(2, 4, 6, 6)
    found, ends = pre_relu_output(inner, x)
    assert not ends and torch.equal(found, inner(x).detach()) and not found.requires_grad
