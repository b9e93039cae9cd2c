import numpy as np
import pytest
import torch
from torch import nn

from mmrecast.connectors import Paraphraser, Translator
from mmrecast.registry import MODELS


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def convolved(x, weight, bias):
    """3x3 convolution of an image (C, H, W), stride 1, zeros around, pixel by pixel."""
    _, h, w = x.shape
    around = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.empty((len(weight), h, w))
    for y in range(h):
        for z in range(w):
            out[:, y, z] = (weight * around[:, y : y + 3, z : z + 3]).sum((1, 2, 3)) + bias
    return out


def spread(x, weight, bias):
    """The transposed one: every pixel adds its weighted kernel to its neighbours; weight is (C_in, C_out, 3, 3)."""
    _, h, w = x.shape
    out = np.zeros((weight.shape[1], h + 2, w + 2))
    for y in range(h):
        for z in range(w):
            out[:, y : y + 3, z : z + 3] += np.einsum('i,iokl->okl', x[:, y, z], weight)
    return out[:, 1:-1, 1:-1] + bias[:, None, None]


def naive(feature, layers, operation):
    """Apply three convolutions and LeakyReLUs to every image."""
    weights = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in layers if hasattr(m, 'kernel_size')]
    assert len(weights) == 3
    images = []
    for image in feature.detach().numpy():
        for weight, bias in weights:
            image = leaky(operation(image, weight, bias))
        images.append(image)
    return np.stack(images)


def feature(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_factor_and_the_reconstruction_agree_with_loops():
    paraphraser = Paraphraser(4, 2).double()
    x = feature(2, 4, 3, 5)
    factor = paraphraser(x)
    expected = naive(x, paraphraser.encoder, convolved)
    np.testing.assert_allclose(factor.detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    expected = naive(factor, paraphraser.decoder, spread)
    reconstruction = paraphraser.reconstruct(x)
    assert reconstruction.shape == x.shape
    np.testing.assert_allclose(reconstruction.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_the_translator_agrees_with_a_loop_and_takes_any_width():
    translator = Translator(3, 5, use_bn=False).double()
    x = feature(2, 3, 4, 4)
    expected = naive(x, translator.encoder, convolved)
    assert expected.shape == (2, 5, 4, 4)
    np.testing.assert_allclose(translator(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_with_bn_the_three_convolutions_are_normalised():
    translator = Translator(3, 5).double()
    norms = [m for m in translator.encoder if isinstance(m, nn.BatchNorm2d)]
    seen = []
    for norm in norms:
        norm.register_forward_hook(lambda module, args, out: seen.append(out.detach().clone()))
    translator(feature(8, 3, 4, 4))
    assert [out.shape[1] for out in seen] == [3, 5, 5]
    for out in seen:
        torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(out.shape[1]).double(), rtol=0, atol=1e-6)
        assert ((out.var((0, 2, 3), correction=0) - 1).abs() < 0.05).all()
    assert not [m for m in Paraphraser(4, 2).modules() if isinstance(m, nn.BatchNorm2d)]  # MMRazor's other default
    assert len([m for m in Paraphraser(4, 2, use_bn=True).modules() if isinstance(m, nn.BatchNorm2d)]) == 6


def test_the_input_is_left_alone():
    x = feature(2, 4, 3, 3)
    before = x.clone()
    Paraphraser(4, 2).double().reconstruct(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(('channels', 'rate', 'expected'), [(64, 0.5, 32), (64, 0.75, 48), (5, 0.5, 3), (1, 0.1, 1)])
def test_the_factor_has_k_times_the_channels(channels, rate, expected):
    inferred = Paraphraser.infer((channels, 8, 8), (16, 8, 8))
    cfg = dict(type='Paraphraser', in_channel=channels, paraphrase_rate=rate)
    factor = MODELS.build(dict(cfg, **inferred))(torch.zeros(1, channels, 2, 2))
    assert factor.shape == (1, expected, 2, 2)
    assert MODELS.build(dict(cfg, out_channel=7))(torch.zeros(1, channels, 2, 2)).shape[1] == 7


def test_weights_have_the_names_they_have_in_mmrazor():
    names = {f'encoder.{i}.{kind}' for i in (0, 3, 6) for kind in ('weight', 'bias')}
    assert set(Translator(3, 5, use_bn=False).state_dict()) == names
    assert set(Paraphraser(4, 2).state_dict()) == names | {name.replace('encoder', 'decoder') for name in names}


def test_reconstruction_trains_both_halves_and_the_factor_only_the_encoder():
    paraphraser = Paraphraser(4, 2)
    paraphraser(torch.randn(2, 4, 3, 3)).sum().backward()
    assert {name.split('.')[0] for name, p in paraphraser.named_parameters() if p.grad is not None} == {'encoder'}
    paraphraser.reconstruct(torch.randn(2, 4, 3, 3)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in paraphraser.parameters())


def test_mistakes():
    for shape in ((2, 3, 4, 4), (2, 4)):
        with pytest.raises(ValueError, match=r'Paraphraser: \(N, 4, H, W\) expected, got \(2,'):
            Paraphraser(4, 2)(torch.zeros(shape))
        with pytest.raises(ValueError, match=r'Paraphraser: \(N, 4, H, W\) expected, got \(2,'):
            Paraphraser(4, 2).reconstruct(torch.zeros(shape))
        with pytest.raises(ValueError, match=r'Translator: \(N, 4, H, W\) expected, got \(2,'):
            Translator(4, 2)(torch.zeros(shape))
    with pytest.raises(ValueError, match='Paraphraser: paraphrase_rate must be a positive number, got 0'):
        Paraphraser(4, None, paraphrase_rate=0)
    with pytest.raises(ValueError, match=r'Paraphraser: positive numbers of channels expected, got \(4, 0\)'):
        Paraphraser(4, 0)
    with pytest.raises(ValueError, match=r'Translator: positive numbers of channels expected, got \(-1, 2\)'):
        Translator(-1, 2)
