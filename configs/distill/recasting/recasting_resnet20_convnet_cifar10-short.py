_base_ = [
    '../_base_/models/resnet20_cifar10.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/recasting_cifar_short.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='Recasting',
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    recipe=[dict(source='backbone.layer*.*', target=dict(type='ConvBlock'))],
    start=dict(type='closed_form', images=1024),
)
train_cfg = dict(stages=[dict(kind='recast', blocks='all', iters=60), dict(kind='finetune', iters=600)])
val_dataloader = dict(dataset=dict(num_samples=1000))
custom_hooks = [dict(type='ResultHook', method='recasting')]
