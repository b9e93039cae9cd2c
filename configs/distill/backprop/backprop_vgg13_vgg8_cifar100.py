_base_ = '../_base_/pairs/vgg13_vgg8_cifar100.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.student)
custom_hooks = [dict(type='ResultHook', method='backprop')]
