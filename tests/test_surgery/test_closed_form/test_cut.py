import torch

from mmrecast.surgery.closed_form.cut import best_affine, lift


def test_lifted_outputs_are_hardly_cut():
    torch.manual_seed(0)
    y = (
        torch.randn(16, 3, 8, 8) * torch.tensor([1.0, 2.0, 0.1])[:, None, None]
        + torch.tensor([0.0, -5, 9])[:, None, None]
    )
    shift = lift([y[:5], y[5:]])
    mean, deviation = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0).sqrt()
    torch.testing.assert_close(shift.float(), (3 * deviation - mean).clamp_min(0), atol=1e-4, rtol=0)
    assert shift[2] == 0
    assert (y + shift[:, None, None] < 0).float().mean() < 0.01


def test_the_best_affine_beats_a_grid():
    torch.manual_seed(0)
    p = torch.randn(4000, 3)
    y = p + 0.5 * torch.randn(4000, 3) + torch.tensor([0.3, 1.0, -0.5])
    a, b = best_affine(p, y)
    loss = ((a * p + b).relu() - y).square().mean(0)
    grid = [
        ((x * p + z).relu() - y).square().mean(0)
        for x in torch.linspace(0, 2, 21).tolist()
        for z in torch.linspace(-1, 2, 31).tolist()
    ]
    assert (loss <= torch.stack(grid).amin(0) * 1.02).all()
    assert (loss[:2] <= y[:, :2].var(0, correction=0)).all()


def test_a_useless_prediction_gives_the_mean():
    torch.manual_seed(0)
    p, y = torch.randn(2000, 2), torch.randn(2000, 2) + 1
    a, b = best_affine(p, y)
    assert (((a * p + b).relu() - y).square().mean(0) <= y.var(0, correction=0) + 1e-9).all()
