import numpy as np
import pytest
import torch
from features import feature

from mmrecast.connectors import ABFConnector
from mmrecast.registry import MODELS

OWN = [(3, 8, 8), (4, 4, 4), (6,)]
OTHER = [(5, 8, 8), (7, 2, 2), (9,)]


def nearest(x, height, width):
    """(N, C, H, W) to another size, each pixel from where it begins."""
    rows, columns = (
        [i * old // new for i in range(new)] for old, new in zip(x.shape[2:], (height, width), strict=True)
    )
    return x[:, :, rows][:, :, :, columns]


def normalised(x, bn):
    mean, var = (b.numpy().reshape(1, -1, 1, 1) for b in (bn.running_mean, bn.running_var))
    weight, bias = (p.detach().numpy().reshape(1, -1, 1, 1) for p in (bn.weight, bn.bias))
    return (x - mean) / np.sqrt(var + bn.eps) * weight + bias


def pointwise(x, conv):
    return np.einsum('oc,nchw->nohw', conv.weight.detach().numpy()[:, :, 0, 0], x)


def three_by_three(x, conv):
    weight, padded = conv.weight.detach().numpy(), np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(x), len(weight), *x.shape[2:]))
    for h, w in np.ndindex(*x.shape[2:]):
        out[:, :, h, w] = np.einsum('ocij,ncij->no', weight, padded[:, :, h : h + 3, w : w + 3])
    return out


def naive(connector, maps):
    results, deeper = [], None
    for k in reversed(range(3)):
        x = maps[k] if maps[k].ndim == 4 else maps[k][:, :, None, None]
        x = normalised(pointwise(x, connector.conv1[k][0]), connector.conv1[k][1])
        if deeper is not None:
            deeper = nearest(deeper, *x.shape[2:])
            scores = pointwise(np.concatenate([x, deeper], axis=1), connector.attention[k])
            shares = 1 / (1 + np.exp(-scores - connector.attention[k].bias.detach().numpy().reshape(1, 2, 1, 1)))
            x = shares[:, :1] * x + shares[:, 1:] * deeper
        deeper = nearest(x, *(OTHER[k][1:] or (1, 1)))
        results.insert(0, normalised(three_by_three(deeper, connector.conv2[k][0]), connector.conv2[k][1]))
    return results


def made():
    torch.manual_seed(0)
    connector = MODELS.build(dict(type='ABFConnector', **ABFConnector.infer(OWN, OTHER))).double()
    for i, (name, buffer) in enumerate(connector.named_buffers()):
        if 'running' in name:
            buffer.copy_(feature(i, *buffer.shape).abs() + 0.5)
    return connector, [feature(100 + k, 2, *shape) for k, shape in enumerate(OWN)]


def test_against_numpy():
    connector, maps = made()
    results = connector.eval()(maps)
    assert [tuple(x.shape[1:]) for x in results] == [(5, 8, 8), (7, 2, 2), (9, 1, 1)]
    for found, expected in zip(results, naive(connector, [x.numpy() for x in maps]), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_each_result_depends_on_its_map_and_the_deeper_ones():
    connector, maps = made()
    for k, result in enumerate(connector([x.requires_grad_() for x in maps])):
        grads = torch.autograd.grad(result.square().sum(), maps, allow_unused=True, retain_graph=True)
        assert [g is not None for g in grads] == [i >= k for i in range(3)]


def test_widths_and_start():
    connector = ABFConnector([(1024, 4, 4), (2048,)], [(8, 4, 4), (8,)])
    assert connector.conv1[0][0].out_channels == 512  # at most
    assert ABFConnector(OWN, OTHER, mid_channels=2).conv2[1][0].in_channels == 2
    weight = connector.conv1[1][0].weight
    bound = (3 / 2048) ** 0.5  # uniform, Kaiming's with a = 1: variance 1 / fan-in
    assert 0.99 * bound < weight.abs().max() <= bound
    assert len(connector.attention) == 1


def test_other_maps_are_refused():
    connector, maps = made()
    with pytest.raises(ValueError, match=r'ABFConnector: maps of \[3, 4, 6\] channels expected, got \[\(2, 3, 8, 8\),'):
        connector(maps[:2])
    with pytest.raises(ValueError, match=r'ABFConnector: maps of \[3, 4, 6\] channels expected'):
        connector([maps[1], maps[0], maps[2]])
    with pytest.raises(ValueError, match='ABFConnector: 2 maps of the student, 3 of the teacher'):
        ABFConnector(OWN[1:], OTHER)
    with pytest.raises(ValueError, match=r'ABFConnector: shapes \(C, H, W\) or \(C,\) expected, got \(4, 4\)'):
        ABFConnector([(4, 4)], [(4,)])
