_base_ = ['../_base_/methods/sp.py', '../_base_/pairs/resnet14_resnet8_digits.py']
model = _base_.networks
