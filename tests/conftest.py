"""What tests share: paths, a fixed number of threads, and everything registered once."""

import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from mmrecast.utils.setup_env import register_all_modules

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tests'))  # for tiny.py


def pytest_configure() -> None:
    """Compute with one thread, so that results do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope='session', autouse=True)
def registered() -> None:
    """Register all modules once, with ``mmrecast`` as the default scope."""
    register_all_modules()


@pytest.fixture(autouse=True)
def own_scope(registered):
    """Give the next test ``mmrecast`` as the default scope, whatever a test did with it."""
    yield
    current = DefaultScope.get_current_instance()
    if current is None or current.scope_name != 'mmrecast':
        DefaultScope.get_instance(f'tests_{time.time_ns()}', scope_name='mmrecast')


@pytest.fixture(scope='session')
def quick(registered):
    """Let runs leave their config unformatted: formatting takes longer than training on a tiny problem."""
    from mmengine.config import Config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, 'pretty_text', property(lambda cfg: '\n'.join(f'{k} = {v!r}' for k, v in cfg.items())))
        yield


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of large sample data beside the repository; the test is skipped where there is none."""
    folder = ROOT.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'no sample data at {folder}')
    return folder


@pytest.fixture(scope='session')
def trained_teacher(registered, tmp_path_factory) -> str:
    """A checkpoint of ``tiny.classifier()``, trained for some seconds on the digits."""
    from tiny import SHAPE, classifier
    from torch.nn.functional import cross_entropy

    from mmrecast.datasets import Digits
    from mmrecast.models import build_network

    torch.manual_seed(0)
    network, digits = build_network(classifier()).train(), Digits(num_samples=640)
    images = ((digits.images - 77.9) / 95.9).view(-1, *SHAPE)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(6):
        for indices in torch.randperm(640).split(64):
            optimizer.zero_grad()
            cross_entropy(network(images[indices]), digits.labels[indices]).backward()
            optimizer.step()
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(network.state_dict(), path)
    return str(path)
