_base_ = '../_base_/singles/resnet14b_digits.py'
model = dict(type='SingleTeacherDistill', student=_base_.network)
custom_hooks = [dict(type='ResultHook', method='backprop')]
