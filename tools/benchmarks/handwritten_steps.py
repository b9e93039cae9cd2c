"""Distillation steps as one writes them by hand in PyTorch, for networks of the form backbone, pooling, classifier.

Nothing of mmrecast's training code is used: the networks' layers are called one by one, the connectors are plain
layers, the losses are spelt out with the numbers that the methods' configs have.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor] | None]


class HandwrittenStep:
    """A training step of one method: crop and flip, normalise, forward, backward, optimiser.

    Args:
        teacher, student (nn.Module): Networks with ``backbone`` and ``head.fc``; copies are made.
        preprocessing (dict): ``mean``, ``std`` (in units of the images), ``crop_padding``, ``flip`` and, maybe,
            ``channels_last``.
        optimizer (dict): Arguments of ``optimizer_class``.
        connectors (dict[str, nn.Module]): Modules whose parameters the connectors here start with.
    """

    optimizer_class: type[torch.optim.Optimizer] = torch.optim.SGD

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        preprocessing: dict,
        optimizer: dict,
        connectors: dict[str, nn.Module],
    ) -> None:
        self.teacher, self.student = copy.deepcopy(teacher).eval(), copy.deepcopy(student).train()
        self.mean, self.std = (torch.tensor(preprocessing[key]).view(-1, 1, 1) for key in ('mean', 'std'))
        self.padding, self.flip = preprocessing['crop_padding'], preprocessing['flip']
        last = preprocessing.get('channels_last', False)
        self.layout = torch.channels_last if last else torch.contiguous_format
        trained = self.build(connectors)
        parameters = [p for module in trained for p in module.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        self.optimizer = self.optimizer_class(parameters, **optimizer)

    def build(self, connectors: dict[str, nn.Module]) -> list[nn.Module]:
        """Make what stands between networks and loss; return the modules that train."""
        return [self.student]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of normalised images (N, C, H, W) and labels (N,)."""
        raise NotImplementedError(f'{type(self).__name__} must define loss')

    def __call__(self, batch: Batch) -> Tensor:
        """Take a step on images (N, C, H, W) uint8, labels (N,) and, maybe, given crops; return the loss."""
        images, labels, choice = batch
        images = self.augment(images, choice)
        x = ((images.float() - self.mean) / self.std).contiguous(memory_format=self.layout)
        loss = self.loss(x, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def augment(self, images: Tensor, choice: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """Crop and mirror images (N, C, H, W); ``choice`` is row and column of the window and whether to mirror."""
        count, _, height, width = images.shape
        if choice is None:
            top, left = torch.randint(2 * self.padding + 1, (2, count))
            choice = top, left, torch.rand(count) < (0.5 if self.flip else 0.0)
        top, left, mirrored = choice
        padded = F.pad(images, (self.padding,) * 4)
        windows = zip(padded, top.tolist(), left.tolist(), strict=True)
        images = torch.stack([image[:, t : t + height, s : s + width] for image, t, s in windows])
        return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)


class KD(HandwrittenStep):
    """0.1 cross entropy + 0.9 τ² KL(teacher ‖ student) at τ = 4."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        with torch.no_grad():
            t = classify(self.teacher, stage(self.teacher, x, 3))
        s = classify(self.student, stage(self.student, x, 3))
        kl = F.kl_div(F.log_softmax(s / 4, 1), F.softmax(t / 4, 1), reduction='batchmean')
        return 0.1 * F.cross_entropy(s, y) + 0.9 * 4**2 * kl


class FactorTransfer(HandwrittenStep):
    """Cross entropy + 500 mean |translator(s)/‖·‖ − paraphraser(t)/‖·‖| on the last maps."""

    def build(self, connectors: dict[str, nn.Module]) -> list[nn.Module]:
        """See the base class."""
        self.translator = convolutions(nn.Conv2d, connectors['connector'].encoder)
        self.encoder = convolutions(nn.Conv2d, connectors['paraphraser'].encoder)
        return [self.student, self.translator]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        with torch.no_grad():
            factor_t = self.encoder(stage(self.teacher, x, 3))
        s = stage(self.student, x, 3)
        factors = (F.normalize(factor.flatten(1)) for factor in (self.translator(s), factor_t))
        return F.cross_entropy(classify(self.student, s), y) + 500 * F.l1_loss(*factors)


class FactorTransferPretraining(HandwrittenStep):
    """Mean |paraphraser(t) − t|; the student is not run."""

    def build(self, connectors: dict[str, nn.Module]) -> list[nn.Module]:
        """See the base class."""
        paraphraser = connectors['paraphraser']
        self.encoder = convolutions(nn.Conv2d, paraphraser.encoder)
        self.decoder = convolutions(nn.ConvTranspose2d, paraphraser.decoder)
        return [self.encoder, self.decoder]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        with torch.no_grad():
            t = stage(self.teacher, x, 3)
        return F.l1_loss(self.decoder(self.encoder(t)), t)


class FitNetsPretraining(HandwrittenStep):
    """100 mean (regressor(s) − t)² on the second stages; neither network is run further."""

    def build(self, connectors: dict[str, nn.Module]) -> list[nn.Module]:
        """See the base class."""
        weight = connectors['connector'].conv_module.conv.weight  # (out, in, 1, 1)
        convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
        self.regressor = nn.Sequential(convolution, nn.BatchNorm2d(weight.shape[0]), nn.ReLU(inplace=True))
        start_alike(self.regressor, connectors['connector'])
        backbone = self.student.backbone
        return [backbone.conv1, backbone.bn1, backbone.layer1, backbone.layer2, self.regressor]

    def hint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's second stage and its loss."""
        with torch.no_grad():
            t = stage(self.teacher, x, 2)
        s = stage(self.student, x, 2)
        return s, 100 * F.mse_loss(self.regressor(s), t)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        return self.hint(x)[1]


class FitNets(FitNetsPretraining):
    """Cross entropy + the hint of :class:`FitNetsPretraining`."""

    def build(self, connectors: dict[str, nn.Module]) -> list[nn.Module]:
        """See the base class."""
        super().build(connectors)
        return [self.student, self.regressor]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """See the base class."""
        s, hint = self.hint(x)
        return F.cross_entropy(classify(self.student, self.student.backbone.layer3(s)), y) + hint


def stage(network: nn.Module, x: Tensor, last: int) -> Tensor:
    """Run images (N, C, H, W) through the stem and the stages up to ``last``."""
    backbone = network.backbone
    x = F.relu(backbone.bn1(backbone.conv1(x)))
    for layers in (backbone.layer1, backbone.layer2, backbone.layer3)[:last]:
        x = layers(x)
    return x


def classify(network: nn.Module, x: Tensor) -> Tensor:
    """Return the logits (N, classes) of the last stage's map (N, C, H, W)."""
    return network.head.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def convolutions(kind: type[nn.Module], start: nn.Module) -> nn.Sequential:
    """Return 3x3 convolutions with LeakyReLU 0.1 that start with the parameters of ``start``."""
    found = [m for m in start.modules() if isinstance(m, kind)]
    layers = [layer for m in found for layer in (kind(m.in_channels, m.out_channels, 3, 1, 1), nn.LeakyReLU(0.1, True))]
    return start_alike(nn.Sequential(*layers), start)


@torch.no_grad()
def start_alike(module: nn.Module, start: nn.Module) -> nn.Module:
    """Give ``module`` the parameters of ``start``, in their order."""
    for own, given in zip(module.parameters(), start.parameters(), strict=True):
        own.copy_(given)
    return module
