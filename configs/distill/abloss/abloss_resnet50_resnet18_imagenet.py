# MMRazor's configuration: 20 epochs on the boundaries in front of each stage's last BN, then labels and KD.
_base_ = ['../_base_/methods/abloss.py', '../_base_/pairs/resnet50_resnet18_imagenet.py']
model = dict(
    _base_.networks,
    links=[
        dict(
            _base_.model.links[0],
            student=[f'layer{stage}.1.conv2' for stage in (1, 2, 3, 4)],
            teacher=['layer1.2.conv3', 'layer2.3.conv3', 'layer3.5.conv3', 'layer4.2.conv3'],
        ),
        dict(student='logits', teacher='logits', loss=dict(type='KLDivergence', loss_weight=6.25, reduction='mean')),
    ],
)
train_cfg = dict(
    stages=[
        dict(_base_.pretrain_stages[0], epochs=20, optim_wrapper=_base_.optim_wrapper),
        *_base_.train_stages,
    ]
)
