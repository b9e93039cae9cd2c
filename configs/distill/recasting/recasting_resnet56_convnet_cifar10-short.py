_base_ = [
    '../_base_/models/resnet56_cifar10.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/recasting_cifar_short.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='Recasting',
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    recipe=[dict(source='backbone.layer*.*', target=dict(type='ConvBlock'))],
    start='closed_form',
)
val_dataloader = dict(dataset=dict(num_samples=1000))
