_base_ = ['../_base_/methods/dist.py', '../_base_/pairs/wrn40_2_wrn16_2_cifar10.py']
model = _base_.networks
