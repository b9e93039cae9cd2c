# DIST (Huang et al., 2022); weights and temperature of MMRazor.
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student='logits',
            teacher='logits',
            loss=dict(type='DISTLoss', inter_loss_weight=1.0, intra_loss_weight=1.0, tau=1.0, loss_weight=2.0),
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='dist')]
