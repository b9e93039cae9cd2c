_base_ = '../_base_/pairs/resnet50_mobilenetv2_imagenet.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.student)
custom_hooks = [dict(type='ResultHook', method='backprop')]
