_base_ = ['../_base_/methods/fitnets.py', '../_base_/pairs/vgg13_vgg8_cifar10.py']
model = _base_.networks
train_cfg = dict(stages=[*_base_.pretrain_stages, *_base_.train_stages])
