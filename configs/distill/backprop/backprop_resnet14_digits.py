_base_ = '../_base_/pairs/resnet14_resnet8_digits.py'
model = dict(type='SingleTeacherDistill', student=_base_.networks.teacher)
train_cfg = dict(stages=[dict(kind='train', iters=300)])
custom_hooks = [dict(type='ResultHook', method='backprop')]
