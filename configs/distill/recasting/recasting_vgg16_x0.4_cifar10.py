_base_ = [
    '../_base_/models/vgg16_cifar10.py',
    '../_base_/recipes/vgg_x0.4.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/recasting_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(type='Recasting', teacher=_base_.teacher, teacher_ckpt=_base_.teacher_ckpt, recipe=_base_.recipe)
train_dataloader = dict(batch_size=64)
custom_hooks = [dict(type='ResultHook', method='recasting')]
