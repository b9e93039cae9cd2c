_base_ = '../_base_/pairs/resnet14_resnet8_digits.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.student)
custom_hooks = [dict(type='ResultHook', method='backprop')]
