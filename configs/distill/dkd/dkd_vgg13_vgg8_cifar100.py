# mdistiller's beta for this pair.
_base_ = ['../_base_/methods/dkd.py', '../_base_/pairs/vgg13_vgg8_cifar100.py']
model = dict(
    _base_.networks,
    links=[dict(_base_.model.links[0], loss=dict(_base_.model.links[0].loss, beta=6.0))],
)
