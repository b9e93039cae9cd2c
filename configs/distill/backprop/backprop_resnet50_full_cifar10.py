_base_ = '../_base_/singles/resnet50_cifar10.py'
model = dict(type='SingleTeacherDistill', student=_base_.network)
custom_hooks = [dict(type='ResultHook', method='backprop')]
