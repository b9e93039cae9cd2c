"""Connectors: trainable modules between a tap and a loss."""

from mmrecast.connectors.byot import BYOTConnector
from mmrecast.connectors.conv_module import ConvModuleConnector
from mmrecast.connectors.crd import CRDConnector
from mmrecast.connectors.factor_transfer import Paraphraser, Translator
from mmrecast.connectors.fbkd import FBKDStudentConnector, FBKDTeacherConnector
from mmrecast.connectors.linear import LinearEmbed
from mmrecast.connectors.logit_standardization import LogitStandardization
from mmrecast.connectors.mgd import MGDConnector
from mmrecast.connectors.norm import NormConnector
from mmrecast.connectors.ofd import OFDTeacherConnector
from mmrecast.connectors.reviewkd import ABFConnector
from mmrecast.connectors.torch_connector import TorchFunctionalConnector, TorchNNConnector
from mmrecast.connectors.vid import VIDConnector

__all__ = [
    'ABFConnector',
    'BYOTConnector',
    'CRDConnector',
    'ConvModuleConnector',
    'FBKDStudentConnector',
    'FBKDTeacherConnector',
    'LinearEmbed',
    'LogitStandardization',
    'MGDConnector',
    'NormConnector',
    'OFDTeacherConnector',
    'Paraphraser',
    'TorchFunctionalConnector',
    'TorchNNConnector',
    'Translator',
    'VIDConnector',
]
