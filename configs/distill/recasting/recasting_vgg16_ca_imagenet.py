_base_ = [
    '../_base_/models/vgg16_imagenet.py',
    '../_base_/recipes/vgg16_ca.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/recasting_imagenet.py',
    '../_base_/default_runtime.py',
]
model = dict(type='Recasting', teacher=_base_.teacher, recipe=_base_.recipe)
custom_hooks = [dict(type='ResultHook', method='recasting')]
