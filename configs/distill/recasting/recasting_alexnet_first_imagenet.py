_base_ = [
    '../_base_/models/alexnet_imagenet.py',
    '../_base_/recipes/alexnet_first.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/recasting_imagenet.py',
    '../_base_/default_runtime.py',
]
model = dict(type='Recasting', teacher=_base_.teacher, recipe=_base_.recipe)
# The paper gives these but for the length of fine-tuning, which is that of its other ILSVRC students.
param_scheduler = dict(step_size=5)
train_cfg = dict(stages=[dict(kind='recast', epochs=8), dict(kind='finetune', epochs=20, optim_wrapper=_base_.slower)])
custom_hooks = [dict(type='ResultHook', method='recasting')]
