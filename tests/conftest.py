"""What tests share: paths, a fixed number of threads, and everything registered once."""

from pathlib import Path

import pytest
import torch

from mmrecast.utils.setup_env import register_all_modules

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Compute with one thread, so that results do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope='session', autouse=True)
def registered() -> None:
    """Register all modules once, with ``mmrecast`` as the default scope."""
    register_all_modules()


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
