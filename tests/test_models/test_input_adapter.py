import pytest
import torch

from mmrecast.models import InputAdapter


def test_another_normalisation():
    raw = torch.rand(2, 3, 4, 4) * 255
    mean, std, own_mean, own_std = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [10.0, 11.0, 12.0]

    def normalised(mean, std):
        return (raw - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)

    adapter = InputAdapter(own_mean, own_std, from_mean=mean, from_std=std)
    torch.testing.assert_close(adapter(normalised(mean, std)), normalised(own_mean, own_std), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(InputAdapter(own_mean, own_std)(raw), normalised(own_mean, own_std))  # not normalised
    adapter = InputAdapter(own_mean, own_std)
    adapter.normalised_by(own_mean, own_std)
    torch.testing.assert_close(adapter(raw), raw)  # both the same


def test_another_size():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert InputAdapter()(images) is images
    expected = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])  # means of 2x2 squares, weighted by the antialiasing filter
    small = InputAdapter(size=2)(images)
    assert small.shape == (1, 1, 2, 2) and small.mean().item() == pytest.approx(expected.mean().item())
    assert InputAdapter(size=(3, 5))(images).shape == (1, 1, 3, 5)
    assert not list(InputAdapter([1.0], [1.0]).state_dict())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(mean=[1.0]), 'mean and std go together'),
        (dict(mean=[1.0], std=[1.0, 2.0]), 'one value per channel'),
        (dict(mean=[1.0], std=[0.0]), 'a deviation must be positive'),
        (dict(size=0), 'size is a positive whole number or two of them, got 0'),
        (dict(size=(1, 2, 3)), 'size is a positive whole number or two of them'),
        (dict(mean=[1.0], std=[1.0], from_mean=[1.0, 2.0], from_std=[1.0, 2.0]), '1 channels, but the images have 2'),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        InputAdapter(**arguments)
