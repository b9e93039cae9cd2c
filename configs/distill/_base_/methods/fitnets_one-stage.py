# FitNets (Romero et al., 2015) in one stage, hint and labels together; regressor and weight of RepDistiller and
# mdistiller.
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student='hint',
            teacher='hint',
            connector=dict(type='ConvModuleConnector', norm_cfg=dict(type='BN')),
            loss=dict(type='MSELoss', loss_weight=100.0),
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='fitnets_one-stage')]
