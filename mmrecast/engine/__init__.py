"""The staged loop and what runs around it."""

from mmrecast.engine.hooks import ResultHook, StagedCheckpointHook, StagedLogProcessor
from mmrecast.engine.runner import StagedRunner, latest_checkpoint
from mmrecast.engine.staged_loop import StagedLoop

__all__ = [
    'ResultHook', 'StagedCheckpointHook', 'StagedLogProcessor', 'StagedLoop', 'StagedRunner', 'latest_checkpoint',
]  # fmt: skip
