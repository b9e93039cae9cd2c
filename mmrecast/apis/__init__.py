"""The Python API: train by a config, recast a network in one call, load a student."""

from mmrecast.apis.recast import RecastResult, recast
from mmrecast.apis.train import ready_runner, test, train
from mmrecast.surgery.student_file import load_student, save_student

__all__ = ['RecastResult', 'load_student', 'ready_runner', 'recast', 'save_student', 'test', 'train']
