"""The methods that read logits alone, as their files in ``configs/distill/_base_/methods`` have them, by formula."""

import math
from functools import partial

import pytest
import torch
from softened import Row, correlation, cross_entropy, kl, logits, softmax
from torch import Tensor, nn

from mmrecast.algorithms import SingleTeacherDistill
from mmrecast.datasets import BatchPreprocessor
from mmrecast.models import build_network
from mmrecast.utils.config_file import read_config

SAMPLES, CLASSES = 6, 5
IMAGES = torch.rand(SAMPLES, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()
LABELS = torch.arange(SAMPLES) % CLASSES
Pairs = list[tuple[Row, Row, int]]


def ce(z: Row, label: int, smoothing: float = 0.0) -> float:
    target = [(1 - smoothing) * (c == label) + smoothing / len(z) for c in range(len(z))]
    return cross_entropy(target, softmax(z))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def hinton(pairs: Pairs, tau: float = 1.0) -> float:
    return tau**2 * mean([kl(softmax(t, tau), softmax(s, tau)) for s, t, _ in pairs])


def standardised(z: Row) -> Row:
    deviation = (sum((x - mean(z)) ** 2 for x in z) / (len(z) - 1)) ** 0.5
    return [(x - mean(z)) / deviation for x in z]


def dkd(pairs: Pairs, tau: float, beta: float) -> float:
    terms = []
    for s, t, y in pairs:
        p_s, p_t = softmax(s, tau), softmax(t, tau)
        q_s, q_t = ([p / (1 - row[y]) for c, p in enumerate(row) if c != y] for row in (p_s, p_t))
        terms.append(kl([p_t[y], 1 - p_t[y]], [p_s[y], 1 - p_s[y]]) + beta * kl(q_t, q_s))
    return tau**2 * mean(terms)


def dist(pairs: Pairs) -> float:
    s, t = ([softmax(pair[side]) for pair in pairs] for side in (0, 1))
    rows = mean([correlation(a, b) for a, b in zip(s, t, strict=True)])
    columns = mean(
        [correlation(list(a), list(b)) for a, b in zip(zip(*s, strict=True), zip(*t, strict=True), strict=True)]
    )
    return 2 * (1 - rows) + 2 * (1 - columns)


def wsld(pairs: Pairs) -> float:
    weights = [1 - math.exp(-ce(s, y) / ce(t, y)) for s, t, y in pairs]
    soft = [cross_entropy(softmax(t, 2.0), softmax(s, 2.0)) for s, t, _ in pairs]
    return 2.5 * 4 * mean([w * x for w, x in zip(weights, soft, strict=True)])


METHODS = {  # weight of the labels; the teacher's part
    'kd': (0.1, lambda pairs: 0.9 * hinton(pairs, 4.0)),
    'l2': (0, lambda pairs: mean([mean([(a - b) ** 2 for a, b in zip(s, t, strict=True)]) / 2 for s, t, _ in pairs])),
    'dkd': (1, partial(dkd, tau=4.0, beta=2.0)),
    'dist': (1, dist),
    'wsld': (1, wsld),
    'logit_std': (0.1, lambda pairs: 9 * hinton([(standardised(s), standardised(t), y) for s, t, y in pairs], 2.0)),
    'born_again': (1, hinton),
}


def built(method: str, student: nn.Module, repo_root) -> tuple[SingleTeacherDistill, list[Row]]:
    """Return the method between ``student`` and a linear teacher, in float64, and the teacher's logits."""
    cfg = read_config(repo_root / f'configs/distill/_base_/methods/{method}.py').model.to_dict()
    assert cfg.pop('type') == 'SingleTeacherDistill'
    teacher = linear(1)
    algorithm = SingleTeacherDistill(student, teacher=teacher, data_preprocessor=BatchPreprocessor((3, 8, 8)), **cfg)
    return algorithm.double().train(), teacher(IMAGES).tolist()


def linear(seed: int) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    with torch.no_grad():
        network[1].weight.copy_(logits(seed, CLASSES, 192, scale=0.1))
        network[1].bias.zero_()
    return network


def losses_of(algorithm: SingleTeacherDistill) -> dict[str, float]:
    found: dict[str, Tensor] = algorithm.loss(IMAGES, dict(gt_label=LABELS, sample_idx=None))
    return {name: value.item() for name, value in found.items()}


@pytest.mark.parametrize('method', METHODS)
def test_losses_are_those_of_the_formula(method, repo_root):
    labels, formula = METHODS[method]
    student = linear(0)
    algorithm, targets = built(method, student, repo_root)
    pairs = list(zip(student(IMAGES).tolist(), targets, LABELS.tolist(), strict=True))
    found = losses_of(algorithm)
    assert found.pop('loss_link0') == pytest.approx(formula(pairs), rel=1e-6)
    expected = dict(loss_task=labels * mean([ce(s, y) for s, _, y in pairs])) if labels else {}
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.filterwarnings('ignore:MMPretrain cannot train the distilled version DeiT')
def test_deit_compares_each_head_with_its_own_target(repo_root):
    arch = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)
    backbone = dict(type='DistilledVisionTransformer', arch=arch, img_size=8, patch_size=4)
    head = dict(type='DeiTClsHead', num_classes=CLASSES, in_channels=8)
    student = build_network(dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=None, head=head))
    algorithm, targets = built('deit', student, repo_root)
    tokens = student.backbone(IMAGES)[-1]
    of_class, of_distillation = (
        layer(token).tolist()
        for layer, token in zip((student.head.layers.head, student.head.layers.head_dist), tokens, strict=True)
    )
    hard = [ce(z, t.index(max(t))) for z, t in zip(of_distillation, targets, strict=True)]
    smoothed = [ce(z, y, smoothing=0.1) for z, y in zip(of_class, LABELS.tolist(), strict=True)]
    expected = dict(loss_class_token=mean(smoothed) / 2, loss_distillation_token=mean(hard) / 2)
    assert losses_of(algorithm) == pytest.approx(expected, rel=1e-9)
