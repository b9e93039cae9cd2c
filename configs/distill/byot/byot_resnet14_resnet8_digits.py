_base_ = ['../_base_/methods/byot.py', '../_base_/pairs/resnet14_resnet8_digits.py']
model = dict(student=_base_.networks.student, taps=dict(student=_base_.networks.taps.student))
