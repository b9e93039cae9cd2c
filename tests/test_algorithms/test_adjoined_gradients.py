"""Gradients of what two paths share: the sum of both, each computed on a plain network of its own (float64)."""

import copy

import pytest
import torch
from adjoined_pairs import begun
from hand_networks import FREE, build
from tiny import classifier
from torch.nn import functional as F


def separate_gradients(algorithm, images, labels, factor):
    """Return both paths' gradients, each from a plain network of its own with the other's logits as constants."""
    full, small = copy.deepcopy(algorithm.student.full), algorithm.student.extract()
    with torch.no_grad():
        constants = copy.deepcopy(full)(images), copy.deepcopy(small)(images)
    a, b = full(images), small(images)
    p = constants[0].softmax(1)
    (-(p * b.log_softmax(1)).sum(1).mean() * factor).backward()  # Σ p log p is constant here
    own = (a.softmax(1) * (a.log_softmax(1) - constants[1].log_softmax(1))).sum(1).mean()
    (F.cross_entropy(a, labels) + factor * own).backward()
    return [{name: p.grad for name, p in network.named_parameters()} for network in (full, small)]


def placed_back(grad, shape, rows, columns):
    """Return a gradient of a narrow tensor in the shape of the full one."""
    whole = torch.zeros(shape, dtype=grad.dtype)
    if grad.dim() == 1:
        whole[rows] = grad
    else:
        whole[torch.tensor(rows)[:, None], torch.tensor(columns)] = grad
    return whole


def check_gradients(algorithm, images, labels, kept):
    """Compare; ``kept`` gives, by the path of a layer, the filters and inputs that the small network has of it."""
    algorithm.progress = 0.3
    of_full, of_small = separate_gradients(algorithm, images, labels, 0.36)
    sum(algorithm.loss(images, dict(gt_label=labels)).values()).backward()
    norms = {path.replace('/', '.') for path in algorithm.student.norms}
    compared = 0
    for name, parameter in algorithm.student.full.named_parameters():
        path = name.rpartition('.')[0]
        expected = of_full[name]
        if path not in norms:
            rows, columns = kept(path, parameter)
            expected = expected + placed_back(of_small[name], parameter.shape, rows, columns)
            assert of_small[name].abs().max() > 0
        assert (parameter.grad - expected).abs().max() < 1e-10, name
        compared += 1
    for path, norm in algorithm.student.norms.items():
        for name, parameter in norm.named_parameters():
            expected = of_small[f'{path.replace("/", ".")}.{name}']
            assert (parameter.grad - expected).abs().max() < 1e-10 and expected.abs().max() > 0, path
            compared += 1
    assert compared == len(list(algorithm.parameters()))


def test_shared_weights_have_the_sum_of_both_gradients(images, labels):
    """A residual network: what is kept are prefixes, and a norm's gradients are its own path's alone."""
    algorithm = begun(network=classifier(widths=(4, 6, 8), shortcut='B', depth=14)).double()
    widths = {'layer2': 3, 'layer3': 4}

    def kept(path, parameter):
        stage = path.split('.')[1] if 'layer' in path else 'layer3' if path == 'head.fc' else ''
        before = dict(layer2='layer1', layer3='layer2').get(stage, '')
        first = path.endswith(('.0.conv1', '.0.shortcut.0'))
        inputs = widths.get(before if first else stage) or parameter.shape[-1 if parameter.dim() == 1 else 1]
        outputs = 10 if path == 'head.fc' else widths.get(stage) or len(parameter)
        return list(range(outputs)), list(range(inputs))

    check_gradients(algorithm, images.double(), labels, kept)


def test_shared_weights_of_a_concatenation(images, labels):
    """Kept are channels in the middle, too: of 4, 6 and 2 side by side 0, 1, then 4, 5, 6, then 10."""
    algorithm = begun(network=build(FREE, 'concatenation'), shape=(3, 8, 8), above=1).double()
    rows = dict(a=[0, 1], b=[0, 1, 2], c=[0], fc=list(range(10)))
    columns = dict(a=[0, 1, 2], b=[0, 1], c=[0, 1, 4, 5, 6], fc=[0, 1, 4, 5, 6, 10])
    check_gradients(
        algorithm, images.expand(-1, 3, -1, -1).double(), labels, lambda path, _: (rows[path], columns[path])
    )


@pytest.mark.parametrize('detach', [False, True])
def test_whether_the_divergence_teaches_the_full_network(images, labels, detach):
    algorithm = begun(kd_loss=dict(type='KLDivergence', teacher_detach=detach))
    algorithm.loss(images, dict(gt_label=labels))['loss_kd'].backward()
    grads = {name: p.grad for name, p in algorithm.student.full.named_parameters()}
    assert (grads['backbone.bn1.weight'] is None) == detach  # the full network's own
    assert (grads['backbone.layer3.0.conv1.weight'][4:].abs().max() == 0) == detach  # filters that are its own
    assert grads['backbone.layer3.0.conv1.weight'][:4].abs().max() > 0
    assert all(p.grad.abs().max() > 0 for p in algorithm.student.norms.parameters())
