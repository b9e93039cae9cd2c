_base_ = ['../_base_/methods/dist.py', '../_base_/pairs/resnet14_resnet8_digits.py']
model = _base_.networks
