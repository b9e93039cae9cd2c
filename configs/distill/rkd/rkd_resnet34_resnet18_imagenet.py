# MMRazor's configuration: the features at length 1.
_base_ = ['../_base_/methods/rkd.py', '../_base_/pairs/resnet34_resnet18_imagenet.py']
model = dict(
    _base_.networks,
    links=[dict(link, loss=dict(link.loss, with_l2_norm=True)) for link in _base_.model.links],
)
