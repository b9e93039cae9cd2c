_base_ = [
    '../_base_/models/resnet50_imagenet.py',
    '../_base_/recipes/resnet50_convnet.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/recasting_imagenet.py',
    '../_base_/default_runtime.py',
]
model = dict(type='Recasting', teacher=_base_.teacher, recipe=_base_.recipe)
train_dataloader = dict(batch_size=128)
custom_hooks = [dict(type='ResultHook', method='recasting')]
