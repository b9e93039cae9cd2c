_base_ = ['../_base_/methods/dist.py', '../_base_/pairs/resnet56_resnet20_cifar100.py']
model = _base_.networks
