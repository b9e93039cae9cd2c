_base_ = '../_base_/singles/resnet18_cifar10.py'
model = dict(type='SingleTeacherDistill', student=_base_.network)
custom_hooks = [dict(type='ResultHook', method='backprop')]
