_base_ = ['../_base_/methods/fsp.py', '../_base_/pairs/resnet56_resnet20_cifar10.py']
model = _base_.networks
train_cfg = dict(stages=[*_base_.pretrain_stages, *_base_.train_stages])
