# MMRazor's configuration: hints at the last two stages and KD beside the labels, weights of 10.
_base_ = ['../_base_/methods/fitnets_one-stage.py', '../_base_/pairs/resnet50_resnet18_imagenet.py']
model = dict(
    _base_.networks,
    links=[
        dict(
            student=['stage3', 'stage4'],
            teacher=['stage3', 'stage4'],
            connector=dict(type='ConvModuleConnector', norm_cfg=dict(type='BN')),
            loss=dict(type='L2Loss', loss_weight=10.0),
        ),
        dict(
            student='logits',
            teacher='logits',
            loss=dict(type='KLDivergence', tau=6.0, loss_weight=10.0, reduction='mean'),
        ),
    ],
)
