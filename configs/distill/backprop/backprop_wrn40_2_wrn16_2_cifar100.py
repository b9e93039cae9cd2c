_base_ = '../_base_/pairs/wrn40_2_wrn16_2_cifar100.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.student)
custom_hooks = [dict(type='ResultHook', method='backprop')]
