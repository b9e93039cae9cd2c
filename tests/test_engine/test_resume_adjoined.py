"""Adjoined networks and searches that were interrupted anywhere go on bit for bit; two processes do as one."""

import pytest
import torch
from tiny import Killed, classifier, config, differing, preprocessor, run, weights, without_seconds

from mmrecast.models import build_network
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

NETWORK = classifier(widths=(4, 8, 16), shortcut='B')
STAGES = [dict(kind='search', iters=5), dict(kind='train', iters=5)]
TAU = [
    dict(type='CosineAnnealingLR'),
    dict(type='ExponentialParamScheduler', param_name='tau', gamma=0.8, by_epoch=False),
]


def searched(**changes):
    """A search that masks kernels: it draws noise at every step, and masks when it is built and when it ends."""
    model = dict(
        type='DifferentiableAdjoinedNetwork', network=NETWORK, above=4, gamma=1e-5, tau=2.0, kernel_mask=0.4,
        data_preprocessor=preprocessor(crop_padding=1),
    )  # fmt: skip
    return config(model | changes, STAGES, checkpoint=dict(iter_interval=1), param_scheduler=TAU)


@pytest.fixture(scope='module')
def whole(tmp_path_factory, quick):
    """Work dir and result of a search that was left alone."""
    folder = tmp_path_factory.mktemp('whole')
    return folder, run(searched(), folder)


@pytest.mark.parametrize(('kind', 'n'), [('iter', 2), ('epoch', 1), ('stage', 1), ('iter', 7), ('iter', 9)])
def test_a_search_goes_on_bit_for_bit(whole, tmp_path, kind, n):
    folder, result = whole
    with pytest.raises(Killed):
        run(searched(), tmp_path, crash=dict(kind=kind, n=n))
    resumed = run(searched(), tmp_path, resume=True)
    assert without_seconds(resumed) == without_seconds(result)
    last = 'stage002_iter00000010.pth'
    one, other = (load_file(path / last) for path in (folder, tmp_path))
    assert not differing(one['state_dict'], other['state_dict']) and one['structure'] == other['structure']
    assert one['scheduled'] == other['scheduled'] and set(one['structure']) == {'divisors'}
    for part in ('', 'full'):
        assert not differing(weights(folder / part), weights(tmp_path / part))


def test_a_checkpoint_of_other_options_is_refused(whole, tmp_path):
    folder, _ = whole
    checkpoint = str(folder / 'stage002_iter00000010.pth')
    wider = dict(network=classifier(widths=(4, 8, 8), shortcut='B'))
    with pytest.raises(ValueError, match='cannot be resumed: it was written with another network'):
        run(searched(**wider), tmp_path, resume=checkpoint)
    for changes in (dict(gamma=1e-4), dict(divisors=(1, 2)), dict(kernel_mask=0.0), dict(cost=dict(type='params'))):
        with pytest.raises(
            ValueError, match='cannot be resumed: it was written with another (search|search, widths|widths)[;,]'
        ):
            run(searched(**changes), tmp_path, resume=checkpoint)


def test_other_weights_to_begin_with_are_refused(tmp_path):
    """The training behind the search goes back to them."""
    file = str(tmp_path / 'start.pth')
    torch.save(build_network(NETWORK).state_dict(), file)
    with pytest.raises(Killed):
        run(searched(checkpoint=file), tmp_path / 'cut', crash=dict(kind='iter', n=2))
    torch.save(build_network(NETWORK).state_dict(), file)
    with pytest.raises(ValueError, match='cannot be resumed: it was written with another start'):
        run(searched(checkpoint=file), tmp_path / 'cut', resume=True)


@pytest.mark.parametrize('shared', [False, True])
def test_an_adjoined_network_goes_on_bit_for_bit(tmp_path, shared):
    model = dict(
        type='AdjoinedNetwork', network=NETWORK, alpha=2, above=4, shared_prefix=shared, kernel_mask=0.4,
        data_preprocessor=preprocessor(crop_padding=1),
    )  # fmt: skip
    cfg = config(model, [dict(kind='train', iters=6)], checkpoint=dict(iter_interval=1))
    run(cfg, tmp_path / 'whole')
    with pytest.raises(Killed):
        run(cfg, tmp_path / 'cut', crash=dict(kind='iter', n=4))
    run(cfg, tmp_path / 'cut', resume=True)
    for part in ('', 'full'):
        assert not differing(weights(tmp_path / 'whole' / part), weights(tmp_path / 'cut' / part))
