_base_ = '../_base_/pairs/wrn28_4_wrn16_2_cifar10.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.teacher)
custom_hooks = [dict(type='ResultHook', method='backprop')]
