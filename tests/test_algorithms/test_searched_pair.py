"""A pair whose widths are open: mixtures by hand, certain choices, noise."""

import copy
import math

import pytest
import torch
from adjoined_pairs import GROUPS, one_hot, searching
from hand_networks import FREE, SHAPE, build
from torch import nn

from mmrecast.algorithms.searched_pair import SearchedPair
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.widths import narrow, widths_of

# ---- the mixture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', [name for name in FREE if name not in ('dropout', 'in-place')])
def test_certain_choices_are_the_narrow_networks(name):
    """With its own divisor for every group, in evaluation and with statistics of the batch."""
    network = build(FREE, name)
    graph = trace_channels(network, SHAPE)
    names = [n for n, g in graph.groups.items() if not g.fixed and not any(m % 2 for m in g.multiples)]
    pair = SearchedPair(network, graph, names, (1, 2))
    images = torch.randn(4, *SHAPE)
    results = set()
    for mode in (False, True):
        for bits in range(2 ** len(names)):
            choice = {n: 1 + (bits >> i & 1) for i, n in enumerate(names)}
            rows = torch.tensor([[2.0 - d, d - 1.0] for d in choice.values()])
            plain = narrow(copy.deepcopy(network), widths_of(graph, choice)).train(mode)
            with torch.no_grad():
                found = copy.deepcopy(pair).train(mode)(images, rows)
                torch.testing.assert_close(found, plain(images), rtol=1e-4, atol=1e-5)
            results.add(round(found.sum().item(), 4))
    assert len(results) > 1  # choices do make a difference


def test_channels_are_mixed_where_they_are_read():
    """A channel counts as often as it is kept: of 8, by 1, 2 and 4 with p, q, r: 1, 1, p+q, p+q, p, p, p, p."""
    network = build(FREE, 'plain')
    graph = trace_channels(network, SHAPE)
    pair = SearchedPair(network, graph, ['a'], (1, 2, 4)).eval()
    images = torch.randn(4, *SHAPE)
    p, q, r = 0.2, 0.3, 0.5
    by_hand = copy.deepcopy(network).eval()
    with torch.no_grad():
        by_hand.b.weight *= torch.tensor([1, 1, p + q, p + q, p, p, p, p]).view(1, 8, 1, 1)
        torch.testing.assert_close(pair(images, torch.tensor([[p, q, r]])), by_hand(images))


def test_flattened_and_joined_channels_are_mixed():
    """Every place of a flattened channel alike, and only the part of a concatenation that chooses."""
    for name, group, reader, factors in (
        ('flatten before linear', 'a', 'hidden', [1.0] * 64 + [0.3] * 64),
        ('concatenation', 'b', 'fc', [1.0] * 4 + [1.0] * 3 + [0.3] * 3 + [1.0] * 2),
    ):
        network = build(FREE, name).eval()
        pair = SearchedPair(network, trace_channels(network, SHAPE), [group], (1, 2)).eval()
        masks = pair._input_masks(torch.tensor([[0.3, 0.7]]))
        assert masks[reader].tolist() == pytest.approx(factors)


def test_logits_are_linear_in_the_choice_of_what_the_classifier_reads():
    network = build(FREE, 'plain')
    pair = SearchedPair(network, trace_channels(network, SHAPE), ['a', 'b'], (1, 2, 4)).eval()
    images = torch.randn(4, *SHAPE)
    rows = torch.eye(3)
    a = torch.tensor([0.5, 0.3, 0.2])
    with torch.no_grad():
        pure = [pair(images, torch.stack([a, row])) for row in rows]
        mixed = pair(images, torch.stack([a, torch.tensor([0.1, 0.6, 0.3])]))
        torch.testing.assert_close(mixed, 0.1 * pure[0] + 0.6 * pure[1] + 0.3 * pure[2])
        assert not torch.allclose(pure[0], pure[2], rtol=1e-2)


def test_without_probabilities_the_likeliest_choice_is_taken(images):
    algorithm = searching().eval()
    with torch.no_grad():
        algorithm.student.width_logits.copy_(one_hot(algorithm, 4, 1, 2, 4))
        assert algorithm.student.choice() == dict(zip(GROUPS, (4, 1, 2, 4), strict=True))
        expected = algorithm.student(images, one_hot(algorithm, 4, 1, 2, 4))
        assert torch.equal(algorithm.student(images), expected)
        plain = narrow(copy.deepcopy(algorithm.student.full), widths_of(algorithm.graph, algorithm.student.choice()))
        torch.testing.assert_close(expected, plain.eval()(images), rtol=1e-4, atol=1e-6)


# ---- noise ----------------------------------------------------------------------------------------------------------


def test_noise_is_drawn_anew_and_by_the_generator():
    algorithm = searching()
    torch.manual_seed(5)
    one, two = (algorithm.student.sample(1.0) for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(algorithm.student.sample(1.0), one) and not torch.allclose(one, two, atol=1e-3)
    assert torch.allclose(one.sum(1), torch.ones(4)) and (one > 0).all()


def test_noise_is_new_at_every_step(images, labels):
    algorithm = searching()
    drawn = []
    sample = algorithm.student.sample
    algorithm.student.sample = lambda tau: drawn.append(sample(tau)) or drawn[-1]
    for _ in range(3):
        algorithm.loss(images, dict(gt_label=labels))
    assert len(drawn) == 3 and not torch.allclose(drawn[0], drawn[1]) and not torch.allclose(drawn[1], drawn[2])


def test_noise_follows_gumbel():
    """The largest of logits plus noise is each with its softmax probability; two such at τ = 1 and 15 agree in it."""
    algorithm = searching()
    logits = torch.tensor([[0.0, 1.0, -1.0], [0.5, 0.5, 2.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    with torch.no_grad():
        algorithm.student.width_logits.copy_(logits)
        torch.manual_seed(0)
        samples = torch.stack([algorithm.student.sample(1.0) for _ in range(6000)])
        chosen = nn.functional.one_hot(samples.argmax(2), 3).float().mean(0)
        assert (chosen - logits.softmax(1)).abs().max() < 0.025  # four standard errors of 1/2 over √6000
        torch.manual_seed(0)
        warm = torch.stack([algorithm.student.sample(15.0) for _ in range(50)])
        assert torch.equal(warm.argmax(2), samples[:50].argmax(2)) and warm.std(0).max() < samples.std(0).min()
        torch.manual_seed(0)
        log_odds = samples.log() - samples[..., :1].log()
        noise = log_odds - (logits - logits[:, :1])  # differences of two Gumbels are logistic: variance π²/3
        assert noise[..., 1].var().item() == pytest.approx(math.pi**2 / 3, rel=0.1)
