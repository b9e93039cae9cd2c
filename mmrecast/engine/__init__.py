"""The staged loop and what runs around it."""

from mmrecast.engine.checkpoints import latest_checkpoint, read_checkpoint
from mmrecast.engine.determinism import NoDeterministicForm
from mmrecast.engine.hooks import ResultHook, StagedCheckpointHook, StagedLogProcessor
from mmrecast.engine.late_values import LateInfoHook
from mmrecast.engine.muon import MuonWithAuxAdam
from mmrecast.engine.numbers_hook import NumbersHook
from mmrecast.engine.optimizers import check_optimizer
from mmrecast.engine.precision import Bf16OptimWrapper
from mmrecast.engine.runner import StagedRunner
from mmrecast.engine.stage_stop_hook import StageStopHook
from mmrecast.engine.staged_loop import StagedLoop
from mmrecast.engine.watch import RunEnded
from mmrecast.engine.width_hook import WidthHook

__all__ = [
    'Bf16OptimWrapper', 'LateInfoHook', 'MuonWithAuxAdam', 'NoDeterministicForm', 'NumbersHook', 'ResultHook',
    'RunEnded', 'StageStopHook', 'StagedCheckpointHook', 'StagedLogProcessor', 'StagedLoop', 'StagedRunner',
    'WidthHook', 'check_optimizer', 'latest_checkpoint', 'read_checkpoint',
]  # fmt: skip
