"""The connectors of MGD, FBKD and PKD's detectors against numpy loops in float64."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from mmrecast.connectors import (
    FBKDStudentConnector,
    FBKDTeacherConnector,
    MGDConnector,
    NormConnector,
    TorchFunctionalConnector,
    TorchNNConnector,
)
from mmrecast.losses import FBKDLoss, MGDLoss
from mmrecast.registry import MODELS
from mmrecast.stages import Stage


def feature(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def convolved(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """Return the convolution of (N, C, H, W), stride 1 and zeros around it, by a loop over places."""
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    k = weight.shape[2]
    p = k // 2
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    out = np.empty((x.shape[0], weight.shape[0], *x.shape[2:]))
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            patch = padded[:, :, i : i + k, j : j + k]
            out[:, :, i, j] = np.einsum('nckl,ockl->no', patch, weight) + bias
    return out


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


@pytest.mark.parametrize('teacher', [3, 5])
def test_mgd_generates_from_the_whole_feature_where_nothing_is_masked(teacher):
    connector = MGDConnector(3, teacher, lambda_mgd=0.0).double()
    x = feature(2, 3, 4, 5)
    aligned = x.numpy() if teacher == 3 else convolved(x.numpy(), connector.align)
    hidden = np.maximum(convolved(aligned, connector.generation[0]), 0)
    np.testing.assert_allclose(connector(x).detach().numpy(), convolved(hidden, connector.generation[2]), rtol=1e-9)
    assert (connector.align is None) == (teacher == 3)


@pytest.mark.parametrize('on_channel', [False, True])
@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_mgd_masks_a_share_of_places_or_of_channels(on_channel, mode):
    connector = MGDConnector(40, 40, lambda_mgd=0.3, mask_on_channel=on_channel).double().train(mode == 'train')
    connector.generation = nn.Identity()
    x = feature(50, 40, 6, 7).abs() + 1
    with torch.random.fork_rng():
        torch.manual_seed(3)
        y, again = connector(x), connector(x)
    kept = y != 0
    assert torch.equal(y[kept], x[kept])  # what stays is not scaled up, unlike dropout
    whole = kept.flatten(2).float().mean(2) if on_channel else kept.float().mean(1)
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    assert 1 - whole.mean().item() == pytest.approx(0.3, abs=0.05)  # 2,000 draws: five standard deviations
    assert not torch.equal(y, again)


def test_mgd_trains_the_student_and_itself():
    connector = MGDConnector(3, 4, lambda_mgd=0.5).double()
    s, t = feature(2, 3, 6, 6).requires_grad_(), feature(2, 4, 6, 6, seed=1).requires_grad_()
    MGDLoss()(connector(s), t).backward()
    assert t.grad is None
    assert all(x.grad.abs().sum() > 0 for x in (s, *connector.parameters()))


def test_norm_is_that_layer():
    x = feature(4, 3, 5, 6)
    flat = x.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    mean, var = (v[None, :, None, None] for v in (flat.mean(1), flat.var(1)))
    connector = MODELS.build(dict(type='NormConnector', in_channels=3, norm_cfg=dict(type='BN', affine=False))).double()
    np.testing.assert_allclose(connector(x).numpy(), (x.numpy() - mean) / np.sqrt(var + 1e-5), rtol=1e-9)
    assert not list(connector.parameters())
    assert isinstance(NormConnector(4, dict(type='GN', num_groups=2)).norm, nn.GroupNorm)


def test_functional_is_that_function():
    x = feature(2, 3, 4, 4)
    cfg = dict(type='TorchFunctionalConnector', function_name='avg_pool2d', func_args=dict(kernel_size=2))
    blocks = x.numpy().reshape(2, 3, 2, 2, 2, 2)
    np.testing.assert_allclose(MODELS.build(cfg)(x).numpy(), blocks.mean((3, 5)), rtol=1e-12)
    assert torch.equal(TorchFunctionalConnector('relu')(x), x.clamp(min=0))
    rows = np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(TorchFunctionalConnector('normalize', dict(dim=1))(x).numpy(), x.numpy() / rows)


def test_layer_is_that_layer():
    cfg = dict(type='TorchNNConnector', module_name='Linear', module_args=dict(in_features=3, out_features=2))
    connector, x = MODELS.build(cfg).double(), feature(4, 3)
    weight, bias = (p.detach().numpy() for p in connector.parameters())
    expected = [[sum(w * v for w, v in zip(row, one, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
                for one in x.numpy()]  # fmt: skip
    np.testing.assert_allclose(connector(x).detach().numpy(), expected, rtol=1e-9)
    assert TorchNNConnector('AdaptiveAvgPool2d', dict(output_size=1))(feature(2, 3, 4, 4)).shape == (2, 3, 1, 1)


def test_fbkd_masks_and_pools():
    x = feature(2, 3, 4, 5)
    spatial, channel, pooled, relation, same = FBKDTeacherConnector(3, spatial_T=0.1, channel_T=2.0).double()(x)
    a = np.abs(x.numpy())
    for n in range(2):
        np.testing.assert_allclose(spatial[n, 0], 20 * softmax(a[n].mean(0) / 0.1), rtol=1e-9)
        np.testing.assert_allclose(channel[n, :, 0, 0], 3 * softmax(a[n].mean((1, 2)) / 2), rtol=1e-9)
    np.testing.assert_allclose(pooled.numpy(), x.numpy().mean(1, keepdims=True), rtol=1e-9)
    assert same is x
    torch.testing.assert_close(relation, x)  # zeros_init: the block begins as the identity


def pooled(x: np.ndarray, *strides: int) -> np.ndarray:
    """Max-pool (N, C, H, W) by each stride in turn, what is left over at the border being dropped."""
    for k in strides:
        h, w = x.shape[2] // k, x.shape[3] // k
        x = np.array([[[[c[i * k : i * k + k, j * k : j * k + k].max() for j in range(w)] for i in range(h)] for c in n]
                       for n in x])  # fmt: skip
    return x


@pytest.mark.parametrize('sub_sample', [False, True])
def test_fbkd_relation_is_a_mean_over_the_pooled_places(sub_sample):
    """dot_product: x + norm(W_o y), y_p = 1/P Σ_q (θ_p · φ_q) g_q; φ and g are pooled by 2 and by 3."""
    torch.manual_seed(0)
    connector = FBKDTeacherConnector(4, sub_sample=sub_sample, maxpool_stride=3, zeros_init=False).double().eval()
    block = connector.non_local
    x = feature(2, 4, 6, 12)
    convs = dict(theta=block.theta, phi=block.phi, g=block.g)
    if sub_sample:
        convs |= dict(phi=block.phi[0][0], g=block.g[0][0])
    theta, phi, g = (convolved(x.numpy(), convs[name].conv) for name in ('theta', 'phi', 'g'))
    if sub_sample:
        phi, g = pooled(phi, 2, 3), pooled(g, 2, 3)
    norm = block.conv_out.norm
    expected = np.empty(x.shape)
    for n in range(2):
        for i in range(6):
            for j in range(12):
                f, v = phi[n].reshape(2, -1), g[n].reshape(2, -1)
                weights = [sum(theta[n, :, i, j] * f[:, q]) / f.shape[1] for q in range(f.shape[1])]
                y = sum(weight * v[:, q] for q, weight in enumerate(weights))
                out = block.conv_out.conv.weight.detach().numpy()[:, :, 0, 0] @ y
                scale = norm.weight.detach().numpy() / math.sqrt(1 + norm.eps)
                expected[n, :, i, j] = x[n, :, i, j].numpy() + scale * out + norm.bias.detach().numpy()
    found = connector(x)[3].detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.abs(found - x.numpy()).max() > 1e-9


def test_fbkd_student_adapts_what_is_compared():
    connector = FBKDStudentConnector(3).double().eval()
    x = feature(2, 3, 4, 5)
    teacher = FBKDTeacherConnector(3).double().eval()(x)
    spatial, channel, means, over_channels, relation, adapted = (y.detach().numpy() for y in connector(x))
    np.testing.assert_allclose(spatial, teacher[0], rtol=1e-12)
    np.testing.assert_allclose(channel, teacher[1], rtol=1e-12)
    linear = connector.channel_wise_adaptation
    expected = x.numpy().mean((2, 3)) @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    np.testing.assert_allclose(means, expected, rtol=1e-9)
    over = convolved(x.numpy().mean(1, keepdims=True), connector.spatial_wise_adaptation)
    np.testing.assert_allclose(over_channels, over, rtol=1e-9)
    np.testing.assert_allclose(relation, convolved(x.numpy(), connector.non_local_adaptation), rtol=1e-9)
    np.testing.assert_allclose(adapted, convolved(x.numpy(), connector.adaptation_layers), rtol=1e-9)


def test_fbkd_trains_the_student_its_adaptations_and_both_non_local_blocks():
    student, teacher = FBKDStudentConnector(3).double(), FBKDTeacherConnector(3).double()
    s, t = feature(2, 3, 4, 4).requires_grad_(), feature(2, 3, 4, 4, seed=1)
    FBKDLoss()(student(s), teacher(t)).backward()
    assert s.grad.abs().sum() > 0
    reached = {name for side in (student, teacher) for name, p in side.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in student.named_parameters()}
    assert all(side.non_local.conv_out.norm.weight.grad.abs().sum() > 0 for side in (student, teacher))


@pytest.mark.parametrize(
    ('connector', 'shape', 'message'),
    [
        (MGDConnector(4, 6), (2, 3, 4, 4), r'MGDConnector: \(N, 4, H, W\) expected, got \(2, 3, 4, 4\)'),
        (MGDConnector(4, 6), (2, 4), r'MGDConnector: \(N, 4, H, W\) expected, got \(2, 4\)'),
        (NormConnector(4, dict(type='BN')), (2, 3, 4, 4), r'NormConnector: \(N, 4, …\) expected, got \(2, 3, 4, 4\)'),
        (FBKDTeacherConnector(4), (2, 3, 4, 4), r'FBKDTeacherConnector: \(N, 4, H, W\) .* got \(2, 3, 4, 4\)'),
        (FBKDStudentConnector(4, sub_sample=True), (2, 4, 3, 8), r'H and W of at least 4 expected, got \(2, 4, 3, 8\)'),
    ],
)
def test_another_feature_is_refused(connector, shape, message):
    with pytest.raises(ValueError, match=message):
        connector(torch.zeros(shape))


@pytest.mark.parametrize(
    ('cfg', 'exception', 'message'),
    [
        (dict(type='MGDConnector', student_channels=4, teacher_channels=4, lambda_mgd=1.5), ValueError,
         r'MGDConnector: lambda_mgd must lie in \[0, 1\], got 1.5'),
        (dict(type='NormConnector', in_channels=4, norm_cfg=dict(type='BM')), KeyError, "'BM' is not .*nearest: "),
        (dict(type='FBKDStudentConnector', in_channels=4, spatial_T=0), ValueError,
         'FBKDStudentConnector: temperatures must be positive, got spatial_T=0, channel_T=0.5'),
        (dict(type='FBKDTeacherConnector', in_channels=4, mode='dot_produkt'), ValueError,
         "FBKDTeacherConnector: there is no mode 'dot_produkt' .nearest: dot_product"),
        (dict(type='TorchFunctionalConnector', function_name='relu6'), ValueError,
         "TorchFunctionalConnector does not offer function_name='relu6' .nearest: relu"),
        (dict(type='TorchFunctionalConnector'), ValueError, 'does not offer function_name=None'),
        (dict(type='TorchNNConnector', module_name='Conv1d'), ValueError, "module_name='Conv1d' .nearest: Conv2d"),
        (dict(type='TorchNNConnector', module_name='Linear', module_args=dict(in_feature=3)), TypeError,
         "Linear takes no argument 'in_feature' .nearest: in_features"),
    ],
)  # fmt: skip
def test_other_mistakes_are_refused(cfg, exception, message):
    with pytest.raises(exception, match=message):
        MODELS.build(cfg)


def test_an_argument_that_the_function_does_not_take_is_named():
    with pytest.raises(TypeError, match="^softmax takes no argument 'dims'"):
        TorchFunctionalConnector('softmax', dict(dims=1))(torch.zeros(2, 3))


TAPS = dict(stages=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'], last='backbone.layer3')
FBKD = [
    dict(
        student='stages',
        teacher='stages',
        connector=dict(type='FBKDStudentConnector'),
        teacher_connector=dict(type='FBKDTeacherConnector'),
        loss=dict(type='FBKDLoss'),
    )
]


@pytest.mark.parametrize('method', ['cwd', 'pkd', 'mgd', 'fbkd'])
def test_the_link_of_the_readme_trains(method):
    shown: dict = dict(links=FBKD)
    if method != 'fbkd':
        page = (Path(__file__).parents[2] / f'configs/distill/{method}/README.md').read_text(encoding='utf-8')
        exec(re.search(r'```python\n(links = .*?)```', page, re.S)[1], shown)
    networks = {side: tiny.classifier(depth=depth) for side, depth in (('student', 8), ('teacher', 14))}
    taps = dict.fromkeys(networks, TAPS)
    cfg = dict(networks, type='SingleTeacherDistill', links=shown['links'], taps=taps, task_loss=None)
    model = MODELS.build(dict(cfg, data_preprocessor=tiny.preprocessor()))
    model.begin_stage(Stage('train', iters=1))
    model.train()
    images = feature(8, *tiny.SHAPE).float()
    (loss,) = model.loss(images, dict(gt_label=torch.arange(8))).values()
    loss.backward()
    assert loss.item() > 0
    assert all(p.grad is not None for p in model.links.parameters())
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.teacher.parameters())
