# Factor Transfer (Kim et al., 2018), the authors' setting: 6 epochs for the paraphraser, then β = 500 and no BN in the
# translator. Theirs of the second phase is 164 epochs of batch 128 from 0.1, x0.1 at 82 and 123, weight decay 5e-4.
model = dict(
    type='SingleTeacherDistill',
    connectors=dict(paraphraser=dict(type='Paraphraser')),
    links=[
        dict(
            student=None,
            teacher='last',
            teacher_connector='paraphraser',
            loss=dict(type='L1Loss'),
            stage='pretrain',
            name='reconstruction',
        ),
        dict(
            student='last',
            teacher='last',
            connector=dict(type='Translator', use_bn=False),
            teacher_connector='paraphraser',
            loss=dict(type='FTLoss', loss_weight=500.0),
        ),
    ],
)
pretrain_stages = [
    dict(
        kind='pretrain',
        epochs=6,
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4)),
        param_scheduler=[],
        val=False,
    )
]
custom_hooks = [dict(type='ResultHook', method='factor_transfer')]
