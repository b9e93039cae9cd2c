"""Students built by surgery have the weights, mults and activation loads the paper prints for them."""

import copy

import pytest
from torch import nn

from mmrecast.analysis.plan_table import plan_rows
from mmrecast.models import CifarResNet, TorchvisionClassifier
from mmrecast.surgery.apply import replay
from mmrecast.surgery.plan import make_plan


class Classifier(nn.Module):
    def __init__(self, backbone, channels):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(channels, 10)

    def forward(self, x):
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def recast(teacher, pattern, input_shape):
    plan = make_plan(teacher.eval(), [dict(source=pattern, target=dict(type='ConvBlock'))], input_shape)
    student = replay(copy.deepcopy(teacher), plan)
    return plan_rows(plan.to_dict(), teacher, student)[-1]


def printed(pair):
    return tuple(f'{value / 1e6:.2f}' for value in pair)


@pytest.mark.parametrize(
    ('depth', 'block', 'shortcut', 'mults', 'acts'),
    [  # mults and acts of the teacher, then of the student, in millions
        (56, 'basic', 'B', ('125.75', '61.78'), ('0.56', '0.27')),
        (56, 'basic', 'A', ('125.49', '61.78'), ('0.53', '0.27')),
        # stem 432 * 32², stages 4608 + 8 * 4352 at 32², 2048 at 32² + 21504 + 8 * 17408 at 16², 8192 at 16² +
        # 86016 + 8 * 69632 at 8²
        (83, 'bottleneck', 'B', ('127.32', '61.78'), ('1.70', '0.27')),
    ],
)
def test_cifar_resnets(depth, block, shortcut, mults, acts):
    backbone = CifarResNet(depth, block=block, shortcut=shortcut)
    total = recast(Classifier(backbone, 64 if block == 'basic' else 256), 'backbone.layer*.*', (3, 32, 32))
    assert total['params'][1] == 412_848
    assert printed(total['mults']) == mults
    assert printed(total['acts']) == acts


def test_resnet50():
    total = recast(TorchvisionClassifier('resnet50'), 'layer*.*', (3, 224, 224))
    assert total['params'] == (25_502_912, 10_290_368)
    # the paper's 1.71 G counts the stem at 56x56; at 112x112 it is 0.0885 G more
    stem, classifier = 9408 * 112**2, 2048 * 1000 // 4
    widths = {64: (3, 0, 56), 128: (3, 1, 28), 256: (5, 1, 14), 512: (2, 1, 7)}  # equal, widening, size
    blocks = sum((same * 9 * w * w + wider * 9 * w * w // 2) * s * s for w, (same, wider, s) in widths.items())
    assert total['mults'][1] == stem + blocks + classifier == 1_794_805_760
    assert f'{(total["mults"][1] - stem * 3 // 4) / 1e9:.2f}' == '1.71'
    assert printed(total['acts']) == ('11.57', '2.53')
