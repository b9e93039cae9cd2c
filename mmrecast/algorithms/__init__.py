"""Algorithms: what trains in a stage and on which loss."""

from mmrecast.algorithms.base import Distiller
from mmrecast.algorithms.data_free import DAFLDataFreeDistillation, DataFreeDistillation
from mmrecast.algorithms.recast_student import recast_student
from mmrecast.algorithms.recasting import Recasting
from mmrecast.algorithms.self_distill import SelfDistill
from mmrecast.algorithms.single_teacher_distill import SingleTeacherDistill

__all__ = [
    'DAFLDataFreeDistillation',
    'DataFreeDistillation',
    'Distiller',
    'Recasting',
    'SelfDistill',
    'SingleTeacherDistill',
    'recast_student',
]
