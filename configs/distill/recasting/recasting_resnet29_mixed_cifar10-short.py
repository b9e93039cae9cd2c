_base_ = [
    '../_base_/models/resnet29_cifar10.py',
    '../_base_/recipes/resnet29_mixed.py',
    '../_base_/budgets/resnet29_mixed.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/recasting_cifar_short.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='Recasting',
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    recipe=_base_.recipe,
    start=_base_.start,
)
train_cfg = dict(stages=_base_.recasting_stages)
val_dataloader = dict(dataset=dict(num_samples=1000))
custom_hooks = [dict(type='ResultHook', method='recasting')]
