# The teacher of the quickstart.
_base_ = [
    '../_base_/models/resnet56_digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/scratch_digits.py',
    '../_base_/default_runtime.py',
]
model = dict(type='SingleTeacherDistill', student=_base_.teacher)
train_cfg = dict(stages=[dict(kind='train', iters=480)])
custom_hooks = [dict(type='ResultHook', method='backprop')]
