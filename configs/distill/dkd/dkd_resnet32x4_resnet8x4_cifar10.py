# mdistiller's beta for this pair.
_base_ = ['../_base_/methods/dkd.py', '../_base_/pairs/resnet32x4_resnet8x4_cifar10.py']
model = dict(
    _base_.networks,
    links=[dict(_base_.model.links[0], loss=dict(_base_.model.links[0].loss, beta=8.0))],
)
