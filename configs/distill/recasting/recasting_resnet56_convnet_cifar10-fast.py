_base_ = [
    '../_base_/models/resnet56_cifar10.py',
    '../_base_/recipes/resnet_convnet.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/recasting_cifar_fast.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='Recasting',
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    recipe=_base_.recipe,
    start=_base_.start,
    hints=dict(blocks=['backbone.layer1.8', 'backbone.layer2.8', 'backbone.layer3.8']),
)
custom_hooks = [dict(type='ResultHook', method='recasting')]
