_base_ = ['../_base_/methods/byot.py', '../_base_/pairs/resnet56_resnet20_cifar100.py']
model = dict(student=_base_.networks.student, taps=dict(student=_base_.networks.taps.student))
