_base_ = '../_base_/pairs/resnet50_resnet18_cifar10.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.student)
custom_hooks = [dict(type='ResultHook', method='backprop')]
