_base_ = ['../_base_/methods/backprop.py', '../_base_/singles/resnet20b_cifar10-short.py']
model = dict(
    student=dict(
        type='NarrowStudent',
        source=_base_.network,
        alpha=2,
        above=_base_.above,
        input_shape=_base_.data_preprocessor.input_shape,
    )
)
