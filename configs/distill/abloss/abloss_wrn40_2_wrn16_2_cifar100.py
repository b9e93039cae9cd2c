_base_ = ['../_base_/methods/abloss.py', '../_base_/pairs/wrn40_2_wrn16_2_cifar100.py']
model = _base_.networks
train_cfg = dict(stages=[*_base_.pretrain_stages, *_base_.train_stages])
