_base_ = ['../_base_/methods/ofd.py', '../_base_/pairs/wrn28_4_wrn16_2_cifar10.py']
model = _base_.networks
