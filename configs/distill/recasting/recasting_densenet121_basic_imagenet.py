_base_ = [
    '../_base_/models/densenet121_imagenet.py',
    '../_base_/recipes/densenet121_basic.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/recasting_imagenet.py',
    '../_base_/default_runtime.py',
]
model = dict(type='Recasting', teacher=_base_.teacher, recipe=_base_.recipe)
custom_hooks = [dict(type='ResultHook', method='recasting')]
