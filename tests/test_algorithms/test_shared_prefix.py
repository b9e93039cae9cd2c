"""Adjoined networks whose stem and first stage run once for both paths."""

import copy

import pytest
import torch
from tiny import classifier, preprocessor

from mmrecast.registry import MODELS
from mmrecast.stages import Stage


def build(shared: bool, alpha: int = 2, **options):
    torch.manual_seed(0)
    network = classifier(depth=14, widths=(4, 8, 8))
    network['backbone'] = dict(network['backbone'], shortcut='B')
    model = dict(network=network, above=4, shared_prefix=shared, data_preprocessor=preprocessor(), **options)
    kind = 'DifferentiableAdjoinedNetwork' if 'divisors' in options else 'AdjoinedNetwork'
    algorithm = MODELS.build(dict(model, type=kind) | ({} if 'divisors' in options else dict(alpha=alpha)))
    algorithm.begin_stage(Stage('search' if 'divisors' in options else 'train', iters=1))
    return algorithm.train()


def test_the_stem_and_first_stage_run_once_and_have_one_set_of_norms(images, labels):
    apart, shared = build(False), build(True)
    assert shared.student.suffix.path == 'backbone.layer1'
    assert not any('layer1' in name or name == 'backbone/bn1' for name in shared.student.norms)
    assert any('layer1' in name for name in apart.student.norms)
    for algorithm, runs in ((apart, 1), (shared, 1)):
        calls = []
        algorithm.student.full.backbone.layer1.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        small = algorithm.student.__dict__['_small'].backbone.layer1
        small.register_forward_hook(lambda *_, calls=calls: calls.append(2))
        inner = []
        small[0].register_forward_hook(lambda *_, inner=inner: inner.append(1))
        algorithm.loss(images, dict(gt_label=labels))
        assert calls == [1, 2] and len(inner) == (0 if algorithm is shared else runs)


@pytest.mark.parametrize('options', [{}, dict(divisors=(1, 2))])
def test_at_the_beginning_both_ways_give_the_same_losses_and_gradients(images, labels, options):
    grads = []
    for shared in (False, True):
        algorithm = build(shared, **options)
        algorithm.progress = 1.0
        torch.manual_seed(5)
        losses = algorithm.loss(images, dict(gt_label=labels))
        sum(value for name, value in losses.items() if name.startswith('loss')).backward()
        own = {name: p.grad for name, p in algorithm.student.full.named_parameters()}
        norms = algorithm.student.norms
        for path, norm in norms.items() if not shared else ():  # where they are one, their gradients add up
            name = path.replace('/', '.')
            if name.startswith(('backbone.bn1', 'backbone.layer1')):
                own[f'{name}.weight'] = own[f'{name}.weight'] + norm.weight.grad
                own[f'{name}.bias'] = own[f'{name}.bias'] + norm.bias.grad
        grads.append((losses['loss_kd'].item(), own))
    assert grads[0][0] == pytest.approx(grads[1][0], rel=1e-5)
    for name, grad in grads[0][1].items():
        assert torch.allclose(grad, grads[1][1][name], rtol=1e-3, atol=1e-5), name


def test_what_is_taken_away_is_what_was_trained(images, labels):
    algorithm = build(True)
    optimizer = torch.optim.SGD(algorithm.parameters(), 0.1)
    for _ in range(3):
        sum(algorithm.loss(images, dict(gt_label=labels)).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    algorithm.eval()
    statistics = copy.deepcopy(algorithm.student.full.state_dict())
    with torch.no_grad():
        full, small = algorithm.student.both(images)
        assert torch.equal(small, algorithm.student(images))
        assert torch.equal(small, algorithm.student.extract().eval()(images))
        assert torch.equal(full, algorithm.student.full(images))
    assert all(torch.equal(value, statistics[name]) for name, value in algorithm.student.full.state_dict().items())


def test_what_is_refused():
    with pytest.raises(ValueError, match='shared_prefix needs a layer that is narrowed'):
        build(True, alpha=1)
    with pytest.raises(ValueError, match='shared_prefix cannot be: ImageClassifier has no module before'):
        torch.manual_seed(0)
        network = classifier(depth=14, widths=(4, 8, 8))
        network['backbone'] = dict(network['backbone'], shortcut='B')
        model = dict(network=network, alpha={'backbone.conv1': 2}, shared_prefix=True, data_preprocessor=preprocessor())
        MODELS.build(dict(model, type='AdjoinedNetwork'))
