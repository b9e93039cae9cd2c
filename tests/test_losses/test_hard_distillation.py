"""The loss, and the two heads of DeiT that it is for: each can be tapped by the path of its module."""

import math

import pytest
import torch
from softened import assert_gradient_of_the_student_alone, logits, softmax
from torch import nn

from mmrecast.losses import CrossEntropyLoss, HardDistillationLoss
from mmrecast.models import build_network
from mmrecast.registry import MODELS
from mmrecast.utils.modules import get_module

S, T = logits(0), logits(1)
HEADS = ('head.layers.head', 'head.layers.head_dist')


def test_the_teachers_decision_is_the_label():
    decided = [row.index(max(row)) for row in T.tolist()]
    expected = -sum(math.log(softmax(s)[y]) for s, y in zip(S.tolist(), decided, strict=True)) / 5
    cfg = dict(type='HardDistillationLoss', loss_weight=0.5)
    assert MODELS.build(cfg)(S, T).item() == pytest.approx(0.5 * expected, rel=1e-12)
    assert_gradient_of_the_student_alone(HardDistillationLoss(), S, T)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r'HardDistillationLoss: the student has \(5, 7\), the teacher \(5, 1\)'):
        HardDistillationLoss()(S, T[:, :1])


@pytest.fixture
def deit() -> nn.Module:
    """A DeiT with distillation token, as mmpretrain has it, of one layer and eight dimensions."""
    arch = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)
    backbone = dict(type='DistilledVisionTransformer', arch=arch, img_size=8, patch_size=4)
    head = dict(type='DeiTClsHead', num_classes=5, in_channels=8)
    torch.manual_seed(0)
    network = build_network(dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=None, head=head))
    with torch.no_grad():  # mmpretrain leaves all three at zero until init_weights()
        for value in (network.backbone.cls_token, network.backbone.dist_token, network.backbone.pos_embed):
            nn.init.normal_(value)
    return network


@pytest.mark.filterwarnings('ignore:MMPretrain cannot train the distilled version DeiT')
@pytest.mark.parametrize('training', [True, False])
def test_both_heads_of_deit_are_tapped_by_their_paths(deit, training):
    """In training and in evaluation alike, the network itself returns the mean of both."""
    read: dict[str, torch.Tensor] = {}
    for path in HEADS:
        get_module(deit, path).register_forward_hook(lambda module, args, out, path=path: read.update({path: out}))
    output = deit.train(training)(torch.rand(3, 3, 8, 8))
    of_class, of_distillation = (read[path] for path in HEADS)
    assert of_class.shape == of_distillation.shape == (3, 5)
    assert (of_class - of_distillation).abs().min() > 1e-4
    torch.testing.assert_close(output, (of_class + of_distillation) / 2)

    CrossEntropyLoss(loss_weight=0.5)(of_class, torch.tensor([0, 1, 2])).backward(retain_graph=True)
    assert _reached(deit) == [HEADS[0]]
    deit.zero_grad()
    HardDistillationLoss(loss_weight=0.5)(of_distillation, torch.eye(3, 5)).backward()
    assert _reached(deit) == [HEADS[1]]


def _reached(deit: nn.Module) -> list[str]:
    """Return the heads that a gradient has reached; it reaches both tokens, which attend to each other."""
    assert all(token.grad.abs().sum() > 0 for token in (deit.backbone.cls_token, deit.backbone.dist_token))
    return [path for path in HEADS if get_module(deit, path).weight.grad is not None]
