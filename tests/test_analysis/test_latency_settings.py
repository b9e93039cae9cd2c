import pytest
import torch
from torch import nn

from mmrecast.analysis.latency_settings import LatencySettings


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(threads=0), 'threads must be at least 1, got 0$'),
        (dict(dtype='bf16'), r"dtype must be one of float32, bfloat16, float16, got 'bf16' \(nearest: bfloat16"),
        (dict(device='gpu'), "device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'"),
        (dict(device='meta'), "device must be 'cpu', 'cuda' or 'cuda:N', got 'meta'"),
        (dict(device='cuda:x'), "device must be 'cpu', 'cuda' or 'cuda:N', got 'cuda:x'"),
    ],
)
def test_bad_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatencySettings(**arguments)


@pytest.mark.parametrize(('count', 'there'), [(1, 'cuda:0 alone'), (2, 'cuda:0 to cuda:1')])
def test_a_gpu_that_is_not_there(monkeypatch, count, there):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    assert LatencySettings(device=f'cuda:{count - 1}').device == f'cuda:{count - 1}'
    with pytest.raises(
        ValueError, match=rf"device 'cuda:3' was asked for, but PyTorch sees {count} GPU\(s\) .*{there}"
    ):
        LatencySettings(device='cuda:3')


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_a_precision_that_would_be_emulated(monkeypatch, dtype):
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: True)
    for has in (True, False):
        for name in ('_is_mkldnn_fp16_supported', '_is_mkldnn_bf16_supported'):
            monkeypatch.setattr(torch.ops.mkldnn, name, lambda has=has: has)
        if has:
            assert LatencySettings(dtype=dtype).images(1, (1, 2, 2)).dtype == getattr(torch, dtype)
        else:
            with pytest.raises(ValueError, match=f'{dtype} is not supported by the convolutions of this CPU'):
                LatencySettings(dtype=dtype)
    assert LatencySettings(dtype='float32').dtype == 'float32'


def test_place_leaves_a_network_that_fits_alone():
    net = nn.Conv2d(1, 2, 3)
    assert LatencySettings().place(net, (1, 4, 4)) == (net, None)


@pytest.mark.parametrize('settings', [dict(channels_last=True), dict(compile=True), dict(fuse_bn=True)])
def test_place_changes_a_copy(settings):
    net = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten()).eval()
    net[1].running_var.fill_(4.0)
    before = net[0].weight.clone()
    placed, folding = LatencySettings(**settings).place(net, (2, 4, 4))
    assert placed is not net and torch.equal(net[0].weight, before) and isinstance(net[1], nn.BatchNorm2d)
    assert placed[0].weight.is_contiguous(memory_format=torch.channels_last) == ('channels_last' in settings)
    if 'fuse_bn' in settings:
        assert (folding.folded, folding.layers) == (1, 1)
        torch.testing.assert_close(placed[0].weight, before / (4 + 1e-5) ** 0.5)
    else:
        assert folding is None


def test_dtype_of_images_and_weights(monkeypatch):
    monkeypatch.setattr('mmrecast.analysis.latency_settings._check_cpu_precision', lambda dtype: None)
    settings = LatencySettings(dtype='bfloat16', channels_last=True)
    images = settings.images(2, (3, 4, 5))
    assert (images.dtype, images.shape) == (torch.bfloat16, (2, 3, 4, 5))
    assert images.is_contiguous(memory_format=torch.channels_last)
    net = nn.Conv2d(3, 3, 1)
    assert settings.place(net, (3, 4, 5))[0].weight.dtype == torch.bfloat16
    assert net.weight.dtype == torch.float32


def test_applied_is_undone():
    net = nn.Sequential(nn.Dropout(), nn.Identity().eval())
    threads = torch.get_num_threads()
    with pytest.raises(KeyError), LatencySettings(threads=threads + 1).applied([net]) as used:
        assert used == torch.get_num_threads() == threads + 1
        assert torch.is_inference_mode_enabled() and not any(m.training for m in net.modules())
        raise KeyError
    assert torch.get_num_threads() == threads and not torch.is_inference_mode_enabled()
    assert [m.training for m in net.modules()] == [True, True, False]


def test_text():
    settings = LatencySettings(channels_last=True, compile=True, fuse_bn=True)
    assert settings.text == 'float32 on cpu, channels_last, compiled, BN folded'
