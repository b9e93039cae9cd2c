# mdistiller's settings for this pair: the weight grows over the first epoch of 100.
_base_ = ['../_base_/methods/dkd.py', '../_base_/pairs/resnet34_resnet18_imagenet.py']
model = dict(
    _base_.networks,
    links=[
        dict(_base_.model.links[0], loss=dict(type='DKDLoss', tau=1.0, alpha=1.0, beta=0.5), warmup=1 / 100),
    ],
)
