_base_ = ['../_base_/methods/factor_transfer_mmrazor.py', '../_base_/pairs/resnet50_resnet18_cifar10.py']
model = _base_.networks
train_cfg = dict(stages=[*_base_.pretrain_stages, *_base_.train_stages])
