# MMRazor's temperature and weights.
_base_ = ['../_base_/methods/kd.py', '../_base_/pairs/resnet50_mobilenetv2_imagenet.py']
model = dict(
    _base_.networks,
    task_loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    links=[dict(student='logits', teacher='logits', loss=dict(type='KLDivergence', tau=1.0, loss_weight=3.0))],
)
