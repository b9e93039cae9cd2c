"""Adjoined pairs, algorithms that train or search them, and a few steps."""

import tiny
import torch
from hand_networks import SHAPE
from torch import Tensor, nn
from torch.nn import functional as F

from mmrecast.algorithms import AdjoinedNetwork, DifferentiableAdjoinedNetwork
from mmrecast.algorithms.adjoined_pair import AdjoinedPair
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.width_rules import divisors_for
from mmrecast.surgery.widths import widths_of

NETWORK = tiny.classifier(widths=(4, 6, 8), shortcut='B')
WIDER = tiny.classifier(widths=(4, 8, 16), shortcut='B')
GROUPS = [f'backbone.layer{stage}.0.conv{i}' for stage in (2, 3) for i in (1, 2)]  # a shortcut joins every conv2


def pair_of(network: nn.Module, shape: tuple = SHAPE, alpha: int = 2, above: int = 4, **options) -> AdjoinedPair:
    """Return the pair of a network whose wider groups are divided by ``alpha``."""
    graph = trace_channels(network, shape)
    widths = widths_of(graph, divisors_for(graph, alpha, above=above, rule='basic'))
    return AdjoinedPair(network, widths, **options)


def train(pair: AdjoinedPair, images: Tensor, steps: int = 2, rate: float = 1e-2) -> AdjoinedPair:
    """Take steps of both losses, with one's own labels."""
    labels = torch.arange(len(images)) % 10
    optimizer = torch.optim.SGD(pair.parameters(), rate)
    pair.train()
    for _ in range(steps):
        full, small = pair.both(images)
        kl = F.kl_div(small.log_softmax(1), full.softmax(1), reduction='batchmean')
        (F.cross_entropy(full, labels) + kl).backward()
        optimizer.step()
        optimizer.zero_grad()
    return pair


def adjoined(network: object = NETWORK, alpha: object = 2, above: int = 4, **options) -> dict:
    """Return the config of an adjoined network on the digits."""
    options = dict(data_preprocessor=tiny.preprocessor()) | options
    return dict(type='AdjoinedNetwork', network=network, alpha=alpha, above=above, **options)


def begun(network: object = NETWORK, *, shape: tuple = tiny.SHAPE, **options) -> AdjoinedNetwork:
    """Return an adjoined network in its stage, in train mode."""
    torch.manual_seed(0)
    data = dict(type='BatchPreprocessor', input_shape=shape, mean=[0.0] * shape[0], std=[1.0] * shape[0])
    algorithm = MODELS.build(adjoined(network, data_preprocessor=data, **options))
    algorithm.begin_stage(Stage('train', iters=10))
    return algorithm.train()


def search(**options) -> dict:
    """Return the config of a search on the digits."""
    options = dict(network=WIDER, above=4, data_preprocessor=tiny.preprocessor()) | options
    return dict(type='DifferentiableAdjoinedNetwork') | options


def searching(**options) -> DifferentiableAdjoinedNetwork:
    """Return an algorithm in its search, in train mode, λ being 1."""
    torch.manual_seed(0)
    algorithm = MODELS.build(search(**options))
    algorithm.begin_stage(Stage('search', iters=10))
    algorithm.progress = 1.0
    return algorithm.train()


def one_hot(algorithm: DifferentiableAdjoinedNetwork, *divisors: int) -> Tensor:
    """Return probabilities of a certain choice."""
    rows = torch.zeros_like(algorithm.student.width_logits)
    for row, divisor in zip(rows, divisors, strict=True):
        row[algorithm.student.divisors.index(divisor)] = 1
    return rows
