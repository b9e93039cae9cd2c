"""BYOT's exit against the formula in loops and numpy, and in self-distillation."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny import ADAM, classifier, config, preprocessor, run, weights
from torch import nn

from mmrecast.connectors import BYOTConnector
from mmrecast.models import build_network
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.utils.checkpoint import load_file


def conv(x: np.ndarray, weight: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """Return a convolution that keeps the size but for its stride, in loops over the pixels of a kernel."""
    n, _, height, width = x.shape
    out, per_group, k, _ = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    rows, columns = range(0, height, stride), range(0, width, stride)
    y = np.zeros((n, out, len(rows), len(columns)))
    for o in range(out):
        first = (o // (out // groups)) * per_group
        for i, top in enumerate(rows):
            for j, left in enumerate(columns):
                patch = padded[:, first : first + per_group, top : top + k, left : left + k]
                y[:, o, i, j] = (patch * weight[o]).sum((1, 2, 3))
    return y


def norm(x: np.ndarray, bn: nn.BatchNorm2d) -> np.ndarray:
    """Return what a BatchNorm in train mode makes of ``x``."""
    x = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + bn.eps)
    return x * array(bn.weight)[:, None, None] + array(bn.bias)[:, None, None]


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().numpy()


def separable(x: np.ndarray, module: nn.Module, stride: int) -> np.ndarray:
    for half, step in ((module.conv1, stride), (module.conv2, 1)):
        _, depthwise, pointwise, bn = half
        x = conv(np.maximum(x, 0), array(depthwise.weight), step, x.shape[1])
        x = norm(conv(x, array(pointwise.weight), 1, 1), bn)
    return x


def doubled(x: np.ndarray) -> np.ndarray:
    """Return ``x`` at twice the size, bilinear, pixel centres at (i + ½) / 2 − ½ and clamped at the border."""
    for axis in (2, 3):
        size = x.shape[axis]
        places = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, size - 1)
        share = (places - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


@pytest.fixture
def exit_and_map():
    torch.manual_seed(0)
    connector = BYOTConnector(1, 4, 3, expansion=2, pool_size=2, stride=2).double()
    for bn in (m for m in connector.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(bn.weight, 0.5, 1.5)
        nn.init.uniform_(bn.bias, -0.5, 0.5)
    return connector, torch.randn(3, 2, 8, 8, dtype=torch.float64)


def test_is_attention_then_separable_convolutions_then_a_classifier(exit_and_map):
    connector, x = exit_and_map
    feature = array(x)
    attended = np.maximum(norm(separable(feature, connector.attention[0], 2), connector.attention[1]), 0)
    y = feature / (1 + np.exp(-doubled(attended)))
    for one in connector.scala[:2]:
        y = separable(y, one, 2)
    flat = y.mean((2, 3))
    expected = flat @ array(connector.fc.weight).T + array(connector.fc.bias)
    found = connector([x])
    np.testing.assert_allclose(array(found[0]), flat, rtol=1e-10)
    np.testing.assert_allclose(array(found[1]), expected, rtol=1e-10)
    assert flat.shape == (3, 8) and expected.shape == (3, 3)
    assert [torch.equal(a, b) for a, b in zip(connector.eval()(x), connector([x]), strict=True)] == [True, True]


@pytest.mark.parametrize(
    ('own', 'other', 'expected'),
    [
        ((16, 32, 32), [(64,), (10,)], dict(in_channel=16, out_channel=64, expansion=1, stride=2, pool_size=8)),
        ([(256, 8, 8)], [(512,), (100,)], dict(in_channel=256, out_channel=512, expansion=1, stride=2, pool_size=4)),
        ((64, 8, 8), [(64,), (10,)], dict(in_channel=64, out_channel=64, expansion=1, stride=2, pool_size=8)),
        ((64, 8, 8), None, dict()),
        ((64,), [(64,)], dict()),
    ],
)
def test_arguments_are_inferred_from_shapes(own, other, expected):
    found = BYOTConnector.infer(own, other)
    assert found == expected
    if found:
        shape = own[0] if isinstance(own, list) else own
        feature, logits = BYOTConnector(**found, num_classes=10)(torch.randn(2, *shape))
        assert feature.shape == (2, expected['out_channel']) and logits.shape == (2, 10)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match='in_channel times a power of 2, got in_channel=16 and out_channel=24'):
        BYOTConnector(16, 24, 10)
    with pytest.raises(ValueError, match='power of 2, got in_channel=16 and out_channel=8'):
        BYOTConnector(16, 8, 10)
    with pytest.raises(ValueError, match='kernel_size must be 3 or 5 and stride 1 or 2, got 3 and 4'):
        BYOTConnector(16, 32, 10, stride=4)
    connector = BYOTConnector(2, 4, 10, expansion=1, stride=2)
    with pytest.raises(ValueError, match=r'a map \(N, 2, H, W\) expected, got \(3, 4, 8, 8\)'):
        connector(torch.zeros(3, 4, 8, 8))
    with pytest.raises(ValueError, match='an exit stands behind one tap, got 2'):
        connector([torch.zeros(3, 2, 8, 8)] * 2)
    with pytest.raises(ValueError, match=r'even height and width, got \(3, 2, 9, 8\)'):
        connector(torch.zeros(3, 2, 9, 8))
    with pytest.raises(ValueError, match=r'\(2, 2\) pixels are left of a map \(3, 2, 16, 16\), not one'):
        connector(torch.zeros(3, 2, 16, 16))


# ---- in self-distillation -------------------------------------------------------------------------------------------


def exit_at(stage: str, **loss) -> dict:
    return dict(
        student=stage,
        teacher=['penultimate', 'logits'],
        connector=dict(type='BYOTConnector'),
        loss=dict(type='BYOTLoss', **loss),
    )


BYOT = dict(
    type='SelfDistill',
    student=classifier(widths=(4, 8, 16)),
    taps=dict(
        student=dict(stage1='backbone.layer1', stage2='backbone.layer2', penultimate=dict(path='head.fc', read='input'))
    ),
    links=[exit_at('stage1'), exit_at('stage2', feature_weight=0.0)],
    data_preprocessor=preprocessor(),
)


def test_exits_train_and_teach_shallow_layers_only(registered):
    """With no loss of its own the deepest layer learns nothing from its exits."""
    algorithm = MODELS.build(dict(BYOT, task_loss=None))
    algorithm.begin_stage(Stage('train', iters=1))
    algorithm.train()
    losses = algorithm.loss(torch.randn(6, 1, 8, 8), dict(gt_label=torch.arange(6)))
    assert list(losses) == ['loss_link0', 'loss_link1']
    sum(losses.values()).backward()
    reached = {name for name, p in algorithm.named_parameters() if p.grad is not None}
    assert {name.split('.')[2] for name in reached if name.startswith('student.backbone')} == {
        'conv1', 'bn1', 'layer1', 'layer2',
    }  # fmt: skip
    assert not any('head' in name or 'layer3' in name for name in reached)
    exits = {name for name, _ in algorithm.named_parameters() if name.startswith('links.')}
    assert len(exits) > 20 and exits <= reached


@pytest.mark.usefixtures('quick')
def test_a_run_leaves_a_student_without_exits(tmp_path):
    cfg = config(BYOT, [dict(kind='train', iters=30)], optim_wrapper=ADAM)
    result = run(cfg, tmp_path)
    assert set(weights(tmp_path)) == set(build_network(BYOT['student']).state_dict())
    assert result['teacher'] is None
    state = load_file((tmp_path / 'last_checkpoint').read_text())['state_dict']
    assert any(name.startswith('links.0.connector.fc') for name in state)
    assert result['stages'][0]['loss'] < 4.5  # of 5.5 for three classifiers that know nothing, weighted 1, 0.7 and 0.7


def test_the_file_of_the_method(repo_root):
    """Its exits are built from shapes alone, and the last one of three or four stages leaves the feature alone."""
    cfg = Config.fromfile(repo_root / 'configs/distill/_base_/methods/byot.py')
    algorithm = MODELS.build(dict(BYOT, links=cfg.model.links))
    losses = algorithm.loss(torch.randn(4, 1, 8, 8), dict(gt_label=torch.arange(4)))
    assert list(losses) == ['loss_task', 'loss_exit1', 'loss_exit2']
    assert [link['loss']['feature_weight'] for link in cfg.exits_of_four] == [0.03, 0.03, 0.0]
    assert [link['student'] for link in cfg.exits_of_four] == ['stage1', 'stage2', 'stage3']
    assert cfg.model.links == cfg.exits_of_three
