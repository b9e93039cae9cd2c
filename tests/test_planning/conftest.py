"""A small trained teacher and images, for plans."""

import pytest
import torch
from tiny import SHAPE, classifier

from mmrecast.datasets import Digits
from mmrecast.models import build_network, load_weights
from mmrecast.surgery.chain import find_chain


@pytest.fixture(scope='module')
def teacher(trained_teacher):
    """The trained `tiny.classifier()`: three basic blocks of 4, 6 and 8 channels."""
    network = build_network(classifier())
    load_weights(network, trained_teacher)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope='module')
def chain(teacher):
    return find_chain(teacher, SHAPE)


@pytest.fixture(scope='module')
def images():
    """64 digits to solve on and 64 others to judge by."""
    digits = ((Digits(num_samples=128).images - 77.9) / 95.9).view(-1, *SHAPE)
    return [digits[:64]], [digits[64:]]


@pytest.fixture(scope='module')
def make_planner(teacher, images):
    """Make planners, two widths; on this machine a network's milliseconds are its multiplications over 10,000."""
    from mmrecast.analysis.complexity import count
    from mmrecast.planning import costs, latencies, planner

    def ms(network, shape=SHAPE):
        return (count(network, shape, 'cifar').mults + 1) / 1e4

    def timed(forms, *_):
        return {key: ms(*form) for key, form in forms.items()}

    def time_networks(builders, reference, shape, **_):
        return [(ms(build()), ms(reference) / ms(build())) for build in builders]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, '_timed', timed)
        for module in (costs, latencies, planner):
            patch.setattr(module, 'time_networks', time_networks)
        yield lambda **options: planner.Planner(teacher, SHAPE, *images, **(dict(ratios=(1, 0.5)) | options))


@pytest.fixture(scope='module')
def planner(make_planner):
    return make_planner()


@pytest.fixture
def candidates(teacher):
    from mmrecast.planning.candidates import candidates_of

    torch.manual_seed(0)
    return candidates_of(teacher, SHAPE, ratios=(1, 0.5))
