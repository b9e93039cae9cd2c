_base_ = '../_base_/singles/resnet18_cifar100.py'
model = dict(
    type='SingleTeacherDistill',
    student=dict(
        type='NarrowStudent',
        source=_base_.network,
        alpha=16,
        input_shape=_base_.data_preprocessor.input_shape,
    ),
)
custom_hooks = [dict(type='ResultHook', method='backprop')]
