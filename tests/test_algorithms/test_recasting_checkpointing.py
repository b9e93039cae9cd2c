"""Recasting with checkpointing: the same step, in every stage, and a run that goes on as one without."""

import pytest
import torch
from tiny import CHAIN, Killed, config, differing, recasting, run, tensors, weights

pytestmark = pytest.mark.usefixtures('quick')

ALL = [dict(kind='recast', blocks='all', iters=4), dict(kind='finetune', iters=5)]
OPTIONS = {
    'the paper': {},
    'a frozen next block': dict(next_block='frozen'),
    'few earlier blocks': dict(earlier=1),
    'fed by the teacher': dict(block_input='teacher'),
}


def step(algorithm, images, labels) -> float:
    algorithm.train()
    optimizer = torch.optim.SGD([p for p in algorithm.student.parameters() if p.requires_grad], lr=0.05)
    loss, _ = algorithm.parse_losses(algorithm.loss(images, dict(gt_label=labels)))
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize('block', [CHAIN[0], CHAIN[3], CHAIN[-1], None])
@pytest.mark.parametrize('name', OPTIONS)
def test_a_step_is_the_same(algorithm_at, images, labels, block, name):
    plain, again = algorithm_at(block, **OPTIONS[name]), algorithm_at(block, checkpointing=True, **OPTIONS[name])
    before = tensors(plain.student)
    assert step(again, images, labels) == pytest.approx(step(plain, images, labels), rel=1e-6)
    after, found = tensors(plain.student), tensors(again.student)
    assert len(differing(before, after)) > 4
    torch.testing.assert_close(found, after, rtol=1e-5, atol=1e-6)
    buffers = [name for name, _ in plain.student.named_buffers()]
    assert differing({n: found[n] for n in buffers}, {n: after[n] for n in buffers}) == []


def test_less_is_kept(algorithm_at, images, labels):
    """Of a convolution with BN and ReLU, one map instead of two; the stem keeps what it did."""
    kept = {}
    for checkpointing in (False, True):
        algorithm = algorithm_at(None, checkpointing=checkpointing)
        own, seen = {p.data_ptr() for p in algorithm.student.state_dict().values()}, {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, seen=seen: seen.setdefault(x.data_ptr(), x), lambda x: x
        ):
            algorithm.train()
            losses = algorithm.loss(images, dict(gt_label=labels))
        kept[checkpointing] = sum(x.numel() for address, x in seen.items() if address not in own)
        del losses
    assert kept[True] < 0.65 * kept[False]


def test_a_run_goes_on_with_it(tmp_path):
    """It is no part of what a checkpoint must agree on: the numbers are the same."""
    saving = dict(checkpoint=dict(iter_interval=1))
    run(config(recasting(), ALL, **saving), tmp_path / 'plain')
    run(config(recasting(checkpointing=True), ALL, **saving), tmp_path / 'again')
    with pytest.raises(Killed):
        run(config(recasting(checkpointing=True), ALL, **saving), tmp_path / 'cut', dict(kind='iter', n=6))
    run(config(recasting(checkpointing=True), ALL, **saving), tmp_path / 'cut', resume=True)
    assert differing(weights(tmp_path / 'cut'), weights(tmp_path / 'again')) == []
    with pytest.raises(Killed):
        run(config(recasting(checkpointing=True), ALL, **saving), tmp_path / 'changed', dict(kind='iter', n=6))
    run(config(recasting(), ALL, **saving), tmp_path / 'changed', resume=True)
    torch.testing.assert_close(weights(tmp_path / 'changed'), weights(tmp_path / 'plain'), rtol=1e-3, atol=1e-4)
