_base_ = '../_base_/pairs/resnet56_resnet20_cifar100.py'
model = dict(
    type='Recasting',
    teacher=_base_.networks.teacher,
    teacher_ckpt=_base_.networks.teacher_ckpt,
    recipe=_base_.recipe,
)
train_cfg = dict(stages=_base_.recasting_stages)
custom_hooks = [dict(type='ResultHook', method='recasting')]
