"""Losses: tensors in, a scalar out."""

from mmrecast.losses.ab_loss import ABLoss
from mmrecast.losses.attention_transfer import ATLoss
from mmrecast.losses.byot import BYOTLoss
from mmrecast.losses.correlation import CCLoss
from mmrecast.losses.crd import CRDLoss
from mmrecast.losses.cross_entropy import CrossEntropyLoss
from mmrecast.losses.cwd import ChannelWiseDivergence
from mmrecast.losses.data_free import ActivationLoss, DiscrepancyLoss, InformationEntropyLoss, OnehotLikeLoss
from mmrecast.losses.dist import DISTLoss
from mmrecast.losses.dkd import DKDLoss
from mmrecast.losses.factor_transfer import FTLoss
from mmrecast.losses.fbkd import FBKDLoss
from mmrecast.losses.fsp import FSPLoss
from mmrecast.losses.hard_distillation import HardDistillationLoss
from mmrecast.losses.kl_divergence import KLDivergence
from mmrecast.losses.l1_loss import L1Loss
from mmrecast.losses.l2_loss import L2Loss
from mmrecast.losses.mgd import MGDLoss
from mmrecast.losses.mse import MSELoss
from mmrecast.losses.nst import NSTLoss
from mmrecast.losses.ofd import OFDLoss
from mmrecast.losses.pkd import PKDLoss
from mmrecast.losses.pkt import PKTLoss
from mmrecast.losses.relational import AngleWiseRKD, DistanceWiseRKD
from mmrecast.losses.relative_mse import RelativeMSELoss
from mmrecast.losses.reviewkd import HCLoss
from mmrecast.losses.similarity import SPLoss
from mmrecast.losses.soft_ce import KDSoftCELoss
from mmrecast.losses.vid import VIDLoss
from mmrecast.losses.wsld import WSLD

__all__ = [
    'ABLoss',
    'ATLoss',
    'ActivationLoss',
    'AngleWiseRKD',
    'BYOTLoss',
    'CCLoss',
    'CRDLoss',
    'ChannelWiseDivergence',
    'CrossEntropyLoss',
    'DISTLoss',
    'DKDLoss',
    'DiscrepancyLoss',
    'DistanceWiseRKD',
    'FBKDLoss',
    'FSPLoss',
    'FTLoss',
    'HCLoss',
    'HardDistillationLoss',
    'InformationEntropyLoss',
    'KDSoftCELoss',
    'KLDivergence',
    'L1Loss',
    'L2Loss',
    'MGDLoss',
    'MSELoss',
    'NSTLoss',
    'OFDLoss',
    'OnehotLikeLoss',
    'PKDLoss',
    'PKTLoss',
    'RelativeMSELoss',
    'SPLoss',
    'VIDLoss',
    'WSLD',
]
