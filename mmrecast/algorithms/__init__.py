"""Algorithms: what trains in a stage and on which loss."""

from mmrecast.algorithms.adjoined_network import AdjoinedNetwork
from mmrecast.algorithms.base import Distiller
from mmrecast.algorithms.data_free import DAFLDataFreeDistillation, DataFreeDistillation
from mmrecast.algorithms.differentiable_adjoined_network import DifferentiableAdjoinedNetwork
from mmrecast.algorithms.narrow_student import narrow_student
from mmrecast.algorithms.recast_student import recast_student
from mmrecast.algorithms.recasting import Recasting
from mmrecast.algorithms.self_distill import SelfDistill
from mmrecast.algorithms.single_teacher_distill import SingleTeacherDistill

__all__ = [
    'AdjoinedNetwork',
    'DAFLDataFreeDistillation',
    'DataFreeDistillation',
    'DifferentiableAdjoinedNetwork',
    'Distiller',
    'Recasting',
    'SelfDistill',
    'SingleTeacherDistill',
    'narrow_student',
    'recast_student',
]
