_base_ = '../_base_/pairs/vgg13_vgg8_cifar10.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.teacher)
custom_hooks = [dict(type='ResultHook', method='backprop')]
