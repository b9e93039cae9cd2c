"""A recasting stage as one writes it by hand in PyTorch, and as tools do that run both networks whole with hooks.

Networks are CIFAR ResNets of the form backbone, pooling, classifier, whose residual blocks are recast.
"""

import torch
import torch.nn.functional as F
from handwritten_steps import HandwrittenStep, classify
from torch import Tensor, nn


class Recasting(HandwrittenStep):
    """Adam on MSE between both networks behind block k+1, or at the logits behind the last block.

    Block k+1, or the classifier, is the teacher's: untouched and in eval mode unless ``follower_trains``.

    Args:
        teacher, student, preprocessing, optimizer: See the base class.
        block (int): k, counted from 0.
        follower_trains (bool): Whether block k+1 trains, too. Defaults to False.
    """

    optimizer_class = torch.optim.Adam

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        preprocessing: dict,
        optimizer: dict,
        block: int,
        follower_trains: bool = False,
    ) -> None:
        self.block, self.follower_trains = block, follower_trains
        super().__init__(teacher, student, preprocessing, optimizer, {})

    def build(self, connectors: dict[str, nn.Module]) -> list[nn.Module]:
        """See the base class."""
        own = [*blocks(self.student), self.student.head.fc]
        follower = own[self.block + 1]
        if not self.follower_trains:
            follower.eval().requires_grad_(False)
        backbone = self.student.backbone
        trained = [backbone.conv1, backbone.bn1, *own[: self.block + 1]]
        return [*trained, follower] if self.follower_trains else trained

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        with torch.no_grad():
            t = self.cut(self.teacher, x)
        return F.mse_loss(self.cut(self.student, x), t)

    def cut(self, network: nn.Module, x: Tensor) -> Tensor:
        """Run images (N, C, H, W) through the stem and the blocks up to k+1."""
        layers = blocks(network)
        x = F.relu(network.backbone.bn1(network.backbone.conv1(x)))
        for layer in layers[: self.block + 2]:
            x = layer(x)
        return classify(network, x) if self.block + 1 == len(layers) else x


class WholeWithHooks(Recasting):
    """The same loss, taken by forward hooks while both networks run to their logits; all of the student may train."""

    def build(self, connectors: dict[str, nn.Module]) -> list[nn.Module]:
        """See the base class."""
        trained = super().build(connectors)
        self.outputs: dict[str, Tensor] = {}
        for name, network in dict(t=self.teacher, s=self.student).items():
            tap = [*blocks(network), network.head.fc][self.block + 1]
            tap.register_forward_hook(lambda module, args, out, name=name: self.outputs.__setitem__(name, out))
        behind = [*blocks(self.student), self.student.head.fc][self.block + 2 :]
        return [*trained, *behind]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        with torch.no_grad():
            self.teacher(x)
        self.student(x)
        return F.mse_loss(self.outputs['s'], self.outputs['t'])


class WholeStep(Recasting):
    """Everything runs and everything trains: MSE at the logits, as fine-tuning does, on the stage's networks."""

    def build(self, connectors: dict[str, nn.Module]) -> list[nn.Module]:
        """See the base class."""
        return [self.student]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        with torch.no_grad():
            t = self.teacher(x)
        return F.mse_loss(self.student(x), t)


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the residual blocks of a CIFAR ResNet, or what they were recast into, in order."""
    backbone = network.backbone
    return [*backbone.layer1, *backbone.layer2, *backbone.layer3]
