_base_ = '../_base_/pairs/wrn40_2_wrn16_2_cifar10.py'
model = dict(
    type='Recasting',
    teacher=_base_.networks.teacher,
    teacher_ckpt=_base_.networks.teacher_ckpt,
    recipe=_base_.recipe,
)
train_cfg = dict(stages=_base_.recasting_stages)
custom_hooks = [dict(type='ResultHook', method='recasting')]
