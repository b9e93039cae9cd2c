"""Adjoined networks: their losses and gradients by hand, what stands beside them, what they leave, what they refuse."""

import copy

import numpy as np
import pytest
import torch
from adjoined_pairs import NETWORK, adjoined, begun
from hand_networks import Net, conv, fc, pooled
from tiny import classifier, config, differing, preprocessor, recasting, run, tensors, weights, without_seconds
from torch import nn
from torch.nn import functional as F

from mmrecast.apis import load_student, save_student
from mmrecast.models import build_network
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.student_file import read_student
from mmrecast.surgery.widths import narrow
from mmrecast.utils.checkpoint import load_file

TRAIN = [dict(kind='train', epochs=3)]


def kl(full, small):
    """Return KL(softmax(full) ‖ softmax(small)), averaged over images, by NumPy."""
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (full, small))
    return (p * (np.log(p) - np.log(q))).sum(1).mean()


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_the_weight_of_the_divergence_grows():
    """λ = kl_weight · min((t / warmup)², 1); by default min(4 t², 1)."""
    algorithm = begun()
    for progress, expected in ((0.0, 0.0), (0.1, 0.04), (0.25, 0.25), (0.4, 0.64), (0.5, 1.0), (0.75, 1.0), (1.0, 1.0)):
        algorithm.progress = progress
        assert algorithm.kl_factor == pytest.approx(min(4 * progress**2, 1)) == pytest.approx(expected)
    algorithm = begun(kl_weight=3.0, warmup=0.8)
    for progress, expected in ((0.2, 3 / 16), (0.4, 0.75), (0.8, 3.0), (0.9, 3.0)):
        algorithm.progress = progress
        assert algorithm.kl_factor == pytest.approx(expected)
    algorithm = begun(warmup=0)
    algorithm.progress = 0.01
    assert algorithm.kl_factor == 1.0


def test_the_progress_of_a_run_reaches_the_loss(tmp_path, quick, monkeypatch):
    seen = []
    cls = MODELS.get('AdjoinedNetwork')
    loss = cls.loss
    monkeypatch.setattr(cls, 'loss', lambda self, *args: seen.append(self.kl_factor) or loss(self, *args))
    run(config(adjoined(), [dict(kind='train', iters=8)]), tmp_path)
    assert seen == pytest.approx([min(4 * (i / 8) ** 2, 1) for i in range(1, 9)])


def test_losses_by_hand(images, labels):
    algorithm, images = begun().double(), images.double()
    algorithm.student.full.head.fc.weight.data.mul_(100)  # no class as likely as another
    algorithm.progress = 0.3
    state = tensors(algorithm)
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert set(losses) == {'loss_task', 'loss_kd'}
    algorithm.load_state_dict(state)
    full = algorithm.student.full(images)
    small = algorithm.student(images)
    a, b = (x.detach().numpy() for x in (full, small))
    assert losses['loss_task'].item() == pytest.approx(
        -np.log(np.exp(a)[range(12), labels] / np.exp(a).sum(1)).mean(), rel=1e-5
    )
    assert losses['loss_kd'].item() == pytest.approx(0.36 * kl(a, b), rel=1e-4)
    assert abs(kl(a, b) - kl(b, a)) > 1e-2 * kl(a, b)  # one cannot pass for the other


def test_losses_of_the_users_choice(images, labels):
    algorithm = begun(
        task_loss=dict(type='CrossEntropyLoss', label_smoothing=0.1), kd_loss=dict(type='KLDivergence', tau=4.0)
    )
    algorithm, images = algorithm.double(), images.double()
    algorithm.progress = 1.0
    state = tensors(algorithm)
    losses = algorithm.loss(images, dict(gt_label=labels))
    algorithm.load_state_dict(state)
    full, small = algorithm.student.full(images), algorithm.student(images)
    a, b = (x.detach().numpy() for x in (full, small))
    assert losses['loss_task'].item() == pytest.approx(F.cross_entropy(full, labels, label_smoothing=0.1).item())
    assert losses['loss_kd'].item() == pytest.approx(16 * kl(a / 4, b / 4), rel=1e-4)


# ---- a plain run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'optimizer', [dict(type='Adam', lr=1e-2), dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-3)]
)
def test_without_divergence_it_is_ordinary_training(tmp_path, quick, optimizer):
    """α = 1 and λ = 0 give the bits of back propagation after three epochs, in both networks but for BN."""
    data = preprocessor(crop_padding=1)
    plain = dict(type='SingleTeacherDistill', student=NETWORK, data_preprocessor=data)
    changes = dict(optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer))
    ordinary = run(config(plain, TRAIN, **changes), tmp_path / 'plain')
    ours = run(
        config(adjoined(alpha=1, kl_weight=0.0, data_preprocessor=data), TRAIN, **changes), tmp_path / 'adjoined'
    )
    expected = weights(tmp_path / 'plain')
    assert not differing(weights(tmp_path / 'adjoined' / 'full'), expected)
    small = weights(tmp_path / 'adjoined')
    own = {name for name in small if 'bn' in name or 'shortcut.1' in name}
    assert not set(differing(small, expected)) - own
    assert ours['stages'][0]['loss'] == ordinary['stages'][0]['loss']
    assert expected['backbone.conv1.weight'].std() > 0 and without_seconds(ours)[0]['iters'] == 9


def test_alpha_1_with_divergence_stays_together(images, labels):
    """Both networks are one but for BN, whose statistics are equal after equal batches: the divergence is zero."""
    algorithm = begun(alpha=1)
    algorithm.progress = 1.0
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert losses['loss_kd'].item() == pytest.approx(0, abs=1e-7)
    assert algorithm.small_widths.layers == {}


# ---- what judges, what is kept --------------------------------------------------------------------------------------


def test_which_network_is_judged(images):
    algorithm = begun().eval()
    with torch.no_grad():
        for norm in algorithm.student.norms.values():
            norm.bias.normal_()
        small, full = (net(images).softmax(1) for net in (algorithm.student.extract(), algorithm.student.full))
        assert not torch.allclose(small, full, atol=1e-3)
        assert torch.equal(torch.stack([s.pred_score for s in algorithm.predict(images, None)]), small)
        with algorithm.judging(algorithm.student.full):
            assert torch.equal(torch.stack([s.pred_score for s in algorithm.predict(images, None)]), full)
        assert torch.equal(torch.stack([s.pred_score for s in algorithm.predict(images, None)]), small)
        assert torch.equal(algorithm(images).softmax(1), small)
    assert set(algorithm.judged_networks) == {'full network', 'small network'}


def test_both_networks_are_saved_and_loaded(tmp_path, images):
    algorithm = begun().eval()
    kept = algorithm.kept_networks
    assert set(kept) == {'', 'full'} and kept['full'][0] is algorithm.student.full
    for name, (network, origin) in kept.items():
        path = str(tmp_path / f'{name}.pth')
        save_student(path, network, origin)
        loaded = load_student(path)
        assert type(loaded) is type(network)
        with torch.no_grad():
            assert torch.equal(loaded(images), network(images)), name
    assert load_file(tmp_path / 'full.pth')['widths'] is None
    assert load_file(tmp_path / '.pth')['widths'] == algorithm.small_widths.to_dict()
    assert load_student(str(tmp_path / '.pth')).head.fc.in_features == 4


def test_recast_first_then_adjoin(tmp_path, quick, images):
    """The student of a recasting, with its weights; the small network's file holds its plan and the widths."""
    cfg = recasting(
        classifier(depth=14, widths=(4, 8, 16)), recipe=[dict(source='backbone.layer*.*', target='ConvBlock')]
    )
    run(config(cfg, [dict(kind='recast', iters=1), dict(kind='finetune', iters=1)]), tmp_path / 'recast')
    student = str(tmp_path / 'recast' / 'student.pth')
    algorithm = begun(network=student).eval()
    with torch.no_grad():
        assert torch.equal(algorithm.student.full(images), load_student(student)(images))
    run(config(adjoined(student), [dict(kind='train', iters=2)]), tmp_path / 'run')
    small, origin = read_student(str(tmp_path / 'run' / 'student.pth'))
    assert small.backbone.layer3[1].conv.out_channels == 8 and origin.widths is not None
    full = load_student(str(tmp_path / 'run' / 'full' / 'student.pth'))
    assert full.backbone.layer3[1].conv.out_channels == 16
    kernel = full.backbone.layer3[1].conv.weight
    assert torch.equal(small.backbone.layer3[1].conv.weight, kernel[:8, :8])
    assert not torch.equal(kernel, load_student(student).backbone.layer3[1].conv.weight)  # it trained


def test_adjoin_what_was_adjoined(tmp_path, quick, images):
    """The small network of one run as the full one of the next; its small one is narrowed twice."""
    run(config(adjoined(), [dict(kind='train', iters=2)]), tmp_path / 'one')
    run(
        config(adjoined(str(tmp_path / 'one' / 'student.pth'), above=3), [dict(kind='train', iters=2)]),
        tmp_path / 'two',
    )
    small = load_student(str(tmp_path / 'two' / 'student.pth'))
    assert small.backbone.layer3[0].conv1.weight.shape == (2, 3, 3, 3) and small.head.fc.in_features == 2
    with torch.no_grad():
        assert small(images).shape == (12, 10)


def test_a_network_as_an_object(images, tmp_path):
    """Adjoined with the weights it has; its file holds no constructor, and is loaded into what is given."""
    network = build_network(NETWORK)
    before = tensors(network)
    algorithm = begun(network=network).eval()
    assert algorithm.student.full is network and not differing(before, tensors(network))
    small, origin = algorithm.kept_networks['']
    save_student(str(tmp_path / 'small.pth'), small, origin)
    with pytest.raises(ValueError, match='holds no constructor .* pass the untrained model='):
        load_student(str(tmp_path / 'small.pth'))
    with torch.no_grad():
        assert torch.equal(load_student(str(tmp_path / 'small.pth'), build_network(NETWORK))(images), small(images))


def test_torchvisions_network_as_an_object(labels):
    from torchvision import models

    network = models.resnet18(num_classes=10)
    network.requires_grad_(False)  # as one that was only used
    algorithm = begun(network=network, shape=(3, 32, 32), alpha=4, above=64)
    sum(algorithm.loss(torch.randn(12, 3, 32, 32), dict(gt_label=labels)).values()).backward()
    assert all(p.grad is not None for p in algorithm.parameters())
    assert algorithm.kept_networks[''][0].layer4[1].conv2.weight.shape == (128, 128, 3, 3)


def test_weights_of_a_checkpoint(tmp_path):
    torch.manual_seed(1)
    network = build_network(NETWORK)
    torch.save(network.state_dict(), tmp_path / 'full.pth')
    algorithm = begun(checkpoint=str(tmp_path / 'full.pth'))
    assert not differing(tensors(algorithm.student.full), tensors(network))
    norm = algorithm.student.norms['backbone/layer3/0/bn1']
    assert torch.equal(norm.weight, network.backbone.layer3[0].bn1.weight[:4])
    assert torch.equal(
        algorithm.student.extract().backbone.layer3[0].conv1.weight, network.backbone.layer3[0].conv1.weight[:4, :3]
    )
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*absent.pth .nearest: full.pth'):
        begun(checkpoint=str(tmp_path / 'absent.pth'))


def test_masks_are_in_the_checkpoint_and_the_student(tmp_path, quick):
    cfg = config(adjoined(kernel_mask=0.4), [dict(kind='train', iters=4)])
    run(cfg, tmp_path)
    state = load_file(tmp_path / 'stage001_iter00000004.pth')['state_dict']
    masks = {name: mask for name, mask in state.items() if 'mask_' in name}
    assert len(masks) == 4 and all(int((mask == 0).sum()) == 3 for mask in masks.values())  # ⌊0.4 · 9⌋
    small, full = weights(tmp_path), weights(tmp_path / 'full')
    first = small['backbone.layer2.0.conv1.weight']
    assert (first == 0).sum() == 3 * first.shape[0] * first.shape[1] and (
        full['backbone.layer2.0.conv1.weight'] != 0
    ).all()
    assert torch.equal((first[0, 0] == 0), masks['student.mask_0'] == 0)


def test_images_that_are_not_square_and_odd_networks(labels):
    """A user's own module with a residual, a gate and dropout, on 8 x 12 places."""
    network = Net(
        lambda m, x: m.fc(m.drop(pooled(m.b(y := m.n(m.a(x)).relu()) * m.g(y.mean((2, 3), True)).sigmoid() + y))),
        a=conv(1, 8), n=nn.BatchNorm2d(8), b=conv(8, 8), g=conv(8, 8, 1), fc=fc(8), drop=nn.Dropout(0.2),
    )  # fmt: skip
    algorithm = begun(network=network, shape=(1, 8, 12))
    images = torch.randn(12, 1, 8, 12)
    sum(algorithm.loss(images, dict(gt_label=labels)).values()).backward()
    algorithm.eval()
    with torch.no_grad():
        assert torch.equal(algorithm(images), algorithm.kept_networks[''][0](images))
        plain = narrow(copy.deepcopy(network), algorithm.small_widths)
    assert plain.a.out_channels == plain.g.out_channels == 4


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(kernel_mask=1.0), '^kernel_mask must be a number of at least 0 and below 1, got 1.0$'),
        (dict(kernel_mask=-0.1), 'kernel_mask must be a number of at least 0 and below 1, got -0.1'),
        (dict(kernel_mask='half'), "kernel_mask must be a number .* got 'half'"),
        (dict(warmup=2), '^warmup must be a number of at least 0 and at most 1, got 2$'),
        (dict(warmup=float('nan')), 'warmup must be a number .* got nan'),
        (dict(kl_weight=-1), '^kl_weight must be a number of at least 0, got -1$'),
        (dict(kl_weight=float('inf')), 'kl_weight must be a number of at least 0, got inf'),
        (dict(kl_weight=True), 'kl_weight must be a number of at least 0, got True'),
        (dict(alpha=3), "^alpha=3 does not divide the 8 channels of 'backbone.layer3.0.conv1'; possible here: 2, 4, "),
        (dict(alpha={'backbone.layer2.0.conv2': 2, 'backbone.layer2.0.shortcut': 3}), 'narrow together'),
        (dict(above=64), '^no layer to adjoin: a group narrows where its convolutions give more than 64 channels'),
        (dict(rule='bottleneck', above=8), 'convolutions read and give more than 8 channels, but the widest here'),
        (dict(exclude=['backbone.layer9']), "'backbone.layer9' matches nothing .nearest: backbone.layer"),
        (dict(network=nn.Identity()), 'no layer to adjoin|cannot be run|must give'),
        (dict(shape=(3, 8, 8)), r'^ImageClassifier cannot be run on input shape \(3, 8, 8\): '),
    ],
)  # fmt: skip
def test_what_is_refused(options, said):
    with pytest.raises(ValueError, match=said) as caught:
        begun(**options)
    assert '\n' not in str(caught.value)


def test_shortcuts_of_zeros_hold_what_they_join():
    """Option A: convolutions within the blocks narrow, their outputs do not."""
    algorithm = begun(network=classifier())
    groups = algorithm.graph.groups
    assert groups['backbone.layer2.0.conv2'].fixed.startswith('pad in ') and groups['backbone.conv1'].fixed
    small = algorithm.student.extract()
    assert small.backbone.layer3[0].conv1.out_channels == 4 and small.backbone.layer3[0].conv2.out_channels == 8


def test_stages():
    algorithm = begun()
    assert algorithm.expand([Stage('train', iters=3), Stage('train', epochs=1)])
    with pytest.raises(ValueError, match='^train: its length must be at least 1, got 0$'):
        algorithm.expand([Stage('train', iters=0)])
    with pytest.raises(ValueError, match="^AdjoinedNetwork has no stage 'search' .nearest: train.$"):
        algorithm.expand([Stage('search', iters=3)])
