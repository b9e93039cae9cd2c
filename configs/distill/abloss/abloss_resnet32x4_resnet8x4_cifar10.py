_base_ = ['../_base_/methods/abloss.py', '../_base_/pairs/resnet32x4_resnet8x4_cifar10.py']
model = _base_.networks
train_cfg = dict(stages=[*_base_.pretrain_stages, *_base_.train_stages])
