import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrecast.analysis.filters import (
    examine,
    explained,
    find_layer,
    judge,
    kernel_gram,
    response_gram,
    strengths,
)

L2 = torch.ones(())


def random_kernels(count, channels=3, size=3, seed=0):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def judged(weight, **thresholds):
    gram = kernel_gram(weight)
    return judge(gram, strengths(gram), **thresholds)


def verdicts(filters):
    return [f.verdict for f in filters]


def test_planted_filters_are_found():
    weight = random_kernels(10)
    weight[3] = -0.5 * weight[1] + 0.01 * weight[4]  # turned round and half as large: the same feature
    weight[5] *= 0.02
    weight[8] = 0.3 * weight[0] - 0.3 * weight[2]
    filters = judged(weight)
    assert verdicts(filters) == [
        'kept', 'kept', 'kept', 'similar', 'kept', 'ineffectual', 'kept', 'kept', 'combination', 'kept',
    ]  # fmt: skip
    assert filters[3].like == 1 and filters[3].similarity > 0.999
    assert filters[8].r2 == pytest.approx(1, abs=1e-6)
    assert filters[5].strength < 0.03 and (filters[5].r2, filters[5].similarity) == (None, None)
    assert [f.index for f in filters if f.redundant] == [3, 8]
    assert verdicts(judged(weight, ineffectual=0.001, r2=1.0))[5] == 'kept'


def test_the_strongest_of_a_cluster_is_kept_and_alikeness_does_not_carry_over():
    def at(degrees, length):
        angle = torch.tensor(degrees / 180 * torch.pi)
        return length * torch.stack([angle.cos(), angle.sin(), L2 * 0, L2 * 0]).view(1, 2, 2)

    # cos 20° = 0.94 is alike, cos 40° = 0.77 is not: the filter in the middle repeats the strongest, the last none
    filters = judged(torch.stack([at(40, 1.0), at(20, 2.0), at(0, 3.0)]), r2=1.0)
    assert verdicts(filters) == ['kept', 'similar', 'kept']
    assert filters[1].like == 2 and filters[1].similarity == pytest.approx(np.cos(np.pi / 9), abs=1e-6)
    assert filters[0].similarity == pytest.approx(np.cos(np.pi * 2 / 9), abs=1e-6)
    # where the one in the middle is the strongest, it stands for both
    filters = judged(torch.stack([at(40, 1.0), at(20, 5.0), at(0, 3.0)]), r2=1.0)
    assert [f.like for f in filters] == [1, None, 1]


def test_r2_is_that_of_a_regression_on_the_others():
    weight = random_kernels(12, channels=1, size=4)
    flat = weight.flatten(1).double().numpy()
    expected = []
    for i in range(12):
        others = np.delete(flat, i, axis=0).T
        residual = flat[i] - others @ np.linalg.lstsq(others, flat[i], rcond=None)[0]
        expected.append(1 - residual @ residual / (flat[i] @ flat[i]))
    filters = judged(weight, similarity=1.0, r2=1.0)
    assert [f.r2 for f in filters] == pytest.approx(expected, abs=1e-6)
    norms = np.linalg.norm(flat, axis=1)
    assert [f.strength for f in filters] == pytest.approx(list(norms / np.median(norms)))


def test_no_more_filters_are_left_than_kernels_have_dimensions():
    filters = judged(random_kernels(40, channels=1), similarity=1.0, r2=1 - 1e-6)
    assert verdicts(filters).count('kept') == 9
    kept = torch.stack([random_kernels(40, channels=1)[f.index].flatten() for f in filters if f.verdict == 'kept'])
    assert torch.linalg.matrix_rank(kept) == 9


def test_layers_without_any_or_with_one_filter():
    assert verdicts(judged(torch.zeros(3, 1, 3, 3))) == ['ineffectual'] * 3
    one = judged(random_kernels(1))[0]
    assert (one.verdict, one.strength, one.similarity, one.r2) == ('kept', 1, None, 0)


class Net(nn.Module):
    """A convolution that is registered first and called last, and one with BatchNorm that is called first."""

    def __init__(self, norm=True):
        super().__init__()
        self.late = nn.Conv2d(4, 5, 3, bias=False)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU(True))
        self.norm = nn.BatchNorm2d(4)
        self.unused = nn.Conv2d(3, 4, 3)
        generator = torch.Generator().manual_seed(0)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.data = torch.randn(4, generator=generator)
                layer.running_var = torch.rand(4, generator=generator) + 0.1

    def forward(self, x):
        return self.late(self.norm(self.stem(x))).mean((2, 3))


def test_the_first_convolution_called_is_found_with_its_norm():
    network = Net().train()
    layer = find_layer(network, (3, 8, 8))
    assert (layer.path, layer.norm) == ('stem.0', network.stem[1])
    assert torch.equal(layer.weight, network.stem[0].weight)
    assert (find_layer(network, (3, 8, 8), 'late').path, find_layer(network, (3, 8, 8), 'stem').path) == (
        'late',
        'stem.0',
    )
    assert find_layer(network, (3, 8, 8), 'late').norm is None
    assert find_layer(Net(norm=False), (3, 8, 8)).norm is None  # the BatchNorm behind the ReLU is not the one
    assert network.training and torch.equal(network.norm.running_mean, torch.zeros(4))
    with pytest.raises(KeyError, match=r"Net has no module 'lat' \(nearest: late"):
        find_layer(network, (3, 8, 8), 'lat')
    with pytest.raises(ValueError, match="Net calls no convolution at or below 'unused'"):
        find_layer(network, (3, 8, 8), 'unused')
    with pytest.raises(ValueError, match=r'Net cannot be run on input shape \(1, 8, 8\): .*channels'):
        find_layer(network, (1, 8, 8))
    with pytest.raises(ValueError, match='Flatten calls no convolution in its forward pass'):
        find_layer(nn.Flatten(), (1, 8, 8))


def test_responses_have_the_covariance_of_the_outputs():
    network, images = Net(), 1000 + torch.rand(7, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    outputs = F.conv2d(images.double(), network.stem[0].weight.double()).permute(1, 0, 2, 3).flatten(1)
    expected = np.cov(outputs.detach().numpy(), bias=True)
    got = response_gram(network, 'stem.0', [images[:2], images[2:]])
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-3, atol=1e-5)
    with pytest.raises(ValueError, match='no images were given'):
        response_gram(network, 'stem.0', [])


def test_strength_is_the_deviation_behind_the_norm():
    network, images = Net().eval(), torch.randn(50, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    layer = find_layer(network, (3, 9, 9))
    with torch.no_grad():
        expected = network.stem[1](network.stem[0](images)).transpose(0, 1).flatten(1).std(1, correction=0)
    measured = strengths(response_gram(network, layer.path, [images]), layer.norm, measured=True)
    torch.testing.assert_close(measured.float(), expected)
    # without images: as far as the statistics of the BatchNorm are those of the responses
    gram = kernel_gram(layer.weight)
    layer.norm.running_var = response_gram(network, layer.path, [images]).diagonal().float()
    torch.testing.assert_close(
        strengths(gram, layer.norm), strengths(response_gram(network, layer.path, [images]), layer.norm, True)
    )
    torch.testing.assert_close(strengths(gram).float(), layer.weight.flatten(1).norm(dim=1))
    bare = nn.BatchNorm2d(4, affine=False, track_running_stats=False)
    assert strengths(gram, bare).tolist() == [1, 1, 1, 1]


def test_images_decide_what_weights_cannot_tell():
    """A filter that differs from another in one colour alone repeats it on grey images."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False))
    network[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).view(2, 3, 1, 1)
    layer = find_layer(network, (3, 6, 6))
    grey = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)).expand(4, 3, 6, 6)
    assert verdicts(examine(network, layer)) == ['kept', 'kept']
    assert verdicts(examine(network, layer, [grey])) == ['kept', 'similar']


def test_explained_by_hand():
    # two variables of correlation 0.6, and one on its own
    correlation = torch.tensor([[1, 0.6, 0], [0.6, 1, 0], [0, 0, 1]], dtype=torch.float64)
    assert explained(correlation).tolist() == pytest.approx([0.36, 0.36, 0], abs=1e-8)


@pytest.mark.parametrize(
    ('thresholds', 'message'),
    [
        (dict(ineffectual=-0.1), 'ineffectual must be from 0 to 1, got -0.1'),
        (dict(similarity=0), 'similarity must be above 0 and at most 1, got 0'),
        (dict(r2=1.5), 'r2 must be above 0 and at most 1, got 1.5'),
        (dict(r2=float('nan')), 'r2 must be above 0 and at most 1, got nan'),
    ],
)
def test_thresholds_out_of_range(thresholds, message):
    with pytest.raises(ValueError, match=message):
        judged(random_kernels(3), **thresholds)


def test_values_that_are_not_finite():
    weight = random_kernels(3)
    weight[1, 0, 0, 0] = float('nan')
    with pytest.raises(ValueError, match='the filters hold values that are not finite'):
        judged(weight)
