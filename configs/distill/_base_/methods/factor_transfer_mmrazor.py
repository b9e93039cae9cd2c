# Factor Transfer as in MMRazor's configuration, for mmpretrain's ResNet-50 → ResNet-18: the last convolutions before BN
# and ReLU, BN in the translator, 20 epochs for the paraphraser on normalised features, weight 1.
model = dict(
    type='SingleTeacherDistill',
    connectors=dict(paraphraser=dict(type='Paraphraser')),
    links=[
        dict(
            student=None,
            teacher='backbone.layer4.2.conv3',
            teacher_connector='paraphraser',
            loss=dict(type='L2Loss'),
            stage='pretrain',
            name='reconstruction',
        ),
        dict(
            student='backbone.layer4.1.conv2',
            teacher='backbone.layer4.2.conv3',
            connector=dict(type='Translator'),
            teacher_connector='paraphraser',
            loss=dict(type='FTLoss', loss_weight=1.0),
        ),
    ],
)
pretrain_stages = [
    dict(
        kind='pretrain',
        epochs=20,
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)),
        param_scheduler=[],
        val=False,
    )
]
custom_hooks = [dict(type='ResultHook', method='factor_transfer_mmrazor')]
