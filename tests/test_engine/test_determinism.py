"""``--deterministic`` on a processor: what is set, and an operator without such a form in a line."""

import os

import pytest
import torch
from tiny import config, recasting
from torch import nn

from mmrecast.apis import ready_runner
from mmrecast.engine.determinism import NoDeterministicForm, named_operator
from mmrecast.registry import BLOCKS
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')
STAGES = [dict(kind='recast', blocks='all', iters=1)]


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Put back what the flag sets for the whole process."""
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


@BLOCKS.register_module()
class PutsBlock(nn.Module):
    """A block that calls an operator without a deterministic form."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        torch.zeros(4).put_(torch.tensor([1, 1]), torch.ones(2))
        return y


def test_the_flag_sets_what_a_gpu_needs_and_stands_in_all_that_is_left(tmp_path, monkeypatch):
    runner = ready_runner(config(recasting(), STAGES), work_dir=str(tmp_path), deterministic=True)
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'
    assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
    runner.train()
    last = load_file((tmp_path / 'last_checkpoint').read_text())['meta']
    student = load_file(tmp_path / 'student.pth')['meta']
    for meta in (last, student):
        assert meta['deterministic'] is True and meta['seed'] == 0
        assert meta['versions']['torch'] == torch.__version__ and meta['machine']['threads'] == 1


def test_a_users_workspace_stays(tmp_path, monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':16:8')
    ready_runner(config(recasting(), STAGES), work_dir=str(tmp_path), deterministic=True)
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':16:8'


def test_without_the_flag_nothing_is_set(tmp_path):
    runner = ready_runner(config(recasting(), STAGES), work_dir=str(tmp_path))
    assert not torch.are_deterministic_algorithms_enabled() and not runner.deterministic
    assert 'CUBLAS_WORKSPACE_CONFIG' not in os.environ


def test_an_operator_without_a_deterministic_form_is_named(tmp_path):
    model = recasting(recipe=[dict(source='backbone.layer*.*', target='PutsBlock')])
    with pytest.raises(NoDeterministicForm, match='^put_ has no deterministic form on this device: replace the layer'):
        ready_runner(config(model, STAGES), work_dir=str(tmp_path), deterministic=True).train()


def test_what_cublas_says():
    text = 'Deterministic behavior was enabled with … but this operation is not deterministic because it uses CuBLAS …'
    with pytest.raises(NoDeterministicForm, match='CUBLAS_WORKSPACE_CONFIG=None lets cuBLAS come out otherwise: set'):
        with named_operator():
            raise RuntimeError(text)


def test_other_mistakes_stay():
    with pytest.raises(RuntimeError, match='^odd$'), named_operator():
        raise RuntimeError('odd')
