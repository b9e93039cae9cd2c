_base_ = '../_base_/singles/resnet20b_cifar10-short.py'
model = dict(type='SingleTeacherDistill', student=_base_.network)
custom_hooks = [dict(type='ResultHook', method='backprop')]
