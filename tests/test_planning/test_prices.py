"""Prices against swaps made by hand, and what the folder keeps."""

import copy
import json
import sys

import pytest
import torch
from tiny import SHAPE
from torch import nn

from mmrecast.planning.candidates import candidates_of
from mmrecast.planning.prices import RECAST, Price, PriceList, _rate
from mmrecast.registry import BLOCKS
from mmrecast.surgery.closed_form import start_target
from mmrecast.surgery.closed_form.examples import Examples


def test_the_error_is_that_of_a_start_by_hand(teacher, chain, candidates, images):
    prices = PriceList(teacher, chain, *images)
    place = next(i for i, c in enumerate(candidates[1]) if c.name == 'ConvBlock 4→6')
    prices.of(1, candidates[1])
    backbone, x = teacher.backbone, images[0][0]
    with torch.no_grad():
        x = backbone.layer1(backbone.bn1(backbone.conv1(x)).relu())
        block = backbone.layer2[0]
        y = block(x)
        target = BLOCKS.build(dict(candidates[1][place].target)).eval()
        caught = Examples([x], [_before_relu(block, x)], True)
        start_target(target, [caught], 1e-4)
        error = (target(x) - y).square().sum() / (y - y.mean((0, 2, 3), keepdim=True)).square().sum()
    assert prices.error(1, candidates[1][place]) == pytest.approx(error.item(), rel=1e-4)


def _before_relu(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    shortcut = block.shortcut(x) if isinstance(getattr(block, 'shortcut', None), nn.Module) else x
    return block.bn2(block.conv2(block.bn1(block.conv1(x)).relu())) + shortcut


def test_what_is_kept_is_free_and_the_same_block_again_nearly(teacher, chain, candidates, images):
    prices = PriceList(teacher, chain, *images)
    for i, own in enumerate(candidates):
        found = dict(zip([c.name for c in own], prices.of(i, own), strict=True))
        width = chain.blocks[i].out_shape[0]
        before = chain.blocks[i].in_shape[0]
        assert found[f'kept {before}→{width}'] == 0
        assert RECAST <= found[f'BasicBlock {before}→{width}'] < found[f'ConvBlock {before}→{width}']
        half = f'{before}→{width // 2}'
        assert found[f'ConvBlock {before}→{width}'] < found[f'ConvBlock {half}']


def test_the_folder_keeps_prices_of_this_teacher_alone(teacher, chain, candidates, images, tmp_path):
    first = PriceList(teacher, chain, *images, tmp_path)
    prices = first.of(0, candidates[0])
    again = PriceList(teacher, chain, *images, tmp_path)
    assert again.of(0, candidates[0]) == prices
    assert (first.computed, again.computed) == (len({c.name for c in candidates[0] if c.target}), 0)
    other = copy.deepcopy(teacher)
    next(other.parameters()).view(-1)[0].add_(1e-3)
    assert PriceList(other, chain, *images, tmp_path).key != first.key
    assert PriceList(teacher, chain, images[1], images[0], tmp_path).key != first.key
    (file,) = first.folder.iterdir()
    file.write_text('{"cut')
    assert PriceList(teacher, chain, *images, tmp_path).of(0, candidates[0]) == prices
    assert json.loads(file.read_text())


def test_the_rate_is_a_geometric_mean():
    assert _rate([Price(0.1, 0.2), Price(0.4, 0.2), Price(0.0, 0.0), Price(0.3, None)]) == pytest.approx(1.0)
    assert _rate([]) == 1.0


def test_the_loss_is_that_of_the_swapped_network(teacher, chain, candidates, images, monkeypatch):
    """Against whole passes of the network in which the block stands."""
    swapped = []
    measure = PriceList.loss_of_swap
    monkeypatch.setattr(
        PriceList,
        'loss_of_swap',
        lambda self, path, student: swapped.append((student, measure(self, path, student))) or swapped[-1][1],
    )
    PriceList(teacher, chain, *images).of(1, candidates[1])
    assert len(swapped) == 3
    for student, loss in swapped:
        with torch.no_grad():
            s, t = (network.eval()(images[1][0]).double().softmax(1) for network in (student, teacher))
        assert loss == pytest.approx((t * (t / s).log()).sum(1).mean().item(), rel=1e-4)


def test_several_processes_price_the_same_as_one(teacher, chain, images, tmp_path):
    """A block of the user's own among them, which a process knows once its module is imported there."""
    candidates = candidates_of(teacher, SHAPE, targets=['ConvBlock', 'PlainBlock', 'Skip'], ratios=(1, 0.5))
    assert any(c.target and c.target['type'] == 'PlainBlock' for own in candidates for c in own)
    found, told = [], []
    for jobs in (1, 2):
        prices = PriceList(teacher, chain, *images, tmp_path / str(jobs))
        found.append((prices.all(candidates, jobs, told.append), prices.computed))
        assert len(told) == 3 * jobs
    assert found[0] == found[1]


def test_a_process_that_ends_is_told(teacher, chain, images, tmp_path, monkeypatch):
    """A block whose module another process cannot find."""
    candidates = candidates_of(teacher, SHAPE, targets=['PlainBlock'], ratios=(1,))
    monkeypatch.setattr(BLOCKS.get('PlainBlock'), '__module__', 'nowhere')
    monkeypatch.setitem(sys.modules, 'nowhere', sys.modules['tiny'])
    with pytest.raises(RuntimeError, match=r'one of 2 processes ended: .*a block \(PlainBlock\) whose module'):
        PriceList(teacher, chain, *images, tmp_path).all(candidates, 2)
