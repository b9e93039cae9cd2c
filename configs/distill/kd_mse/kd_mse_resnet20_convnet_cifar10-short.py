# As many images as recasting_resnet20_convnet_cifar10-short.py, with what its closed-form starts read.
_base_ = [
    '../_base_/models/resnet20_cifar10.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/scratch_cifar.py',
    '../_base_/default_runtime.py',
]
recipe = [dict(source='backbone.layer*.*', target=dict(type='ConvBlock'))]
model = dict(
    type='SingleTeacherDistill',
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    student=dict(type='RecastStudent', source=_base_.teacher, recipe=recipe),
    links=[dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))],
)
train_cfg = dict(stages=[dict(kind='train', iters=1212)])
val_dataloader = dict(dataset=dict(num_samples=1000))
custom_hooks = [dict(type='ResultHook', method='kd_mse')]
