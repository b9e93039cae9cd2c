_base_ = [
    '../_base_/models/vgg16_imagenet.py',
    '../_base_/recipes/vgg16_ca.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/scratch_imagenet.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='SingleTeacherDistill',
    teacher=_base_.teacher,
    student=dict(
        type='RecastStudent',
        source=_base_.teacher,
        recipe=_base_.recipe,
        input_shape=(3, 224, 224),
    ),
    links=[dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))],
)
custom_hooks = [dict(type='ResultHook', method='kd_mse')]
