_base_ = ['../_base_/methods/backprop.py', '../_base_/singles/resnet18_imagenet.py']
model = dict(
    student=dict(type='NarrowStudent', source=_base_.network, alpha=4, input_shape=_base_.data_preprocessor.input_shape)
)
