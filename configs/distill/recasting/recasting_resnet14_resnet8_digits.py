_base_ = '../_base_/pairs/resnet14_resnet8_digits.py'
model = dict(
    type='Recasting',
    teacher=_base_.networks.teacher,
    teacher_ckpt=_base_.networks.teacher_ckpt,
    recipe=_base_.recipe,
    next_block='teacher',  # a stage anew costs more than these few images teach it
)
train_cfg = dict(stages=_base_.recasting_stages)
custom_hooks = [dict(type='ResultHook', method='recasting')]
