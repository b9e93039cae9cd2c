_base_ = '../_base_/pairs/resnet32x4_resnet8x4_cifar100.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.student)
custom_hooks = [dict(type='ResultHook', method='backprop')]
