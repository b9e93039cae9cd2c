_base_ = ['../_base_/methods/dist.py', '../_base_/pairs/resnet56_resnet20_cifar10-short.py']
model = _base_.networks
