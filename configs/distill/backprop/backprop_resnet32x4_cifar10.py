_base_ = '../_base_/pairs/resnet32x4_resnet8x4_cifar10.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.teacher)
custom_hooks = [dict(type='ResultHook', method='backprop')]
