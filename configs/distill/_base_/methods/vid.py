# VID (Ahn et al., 2019); regressors, variances and weight of RepDistiller.
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student='stages',
            teacher='stages',
            connector=dict(type='VIDConnector'),
            loss=dict(type='VIDLoss', init_pred_var=5.0, loss_weight=1.0),
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='vid')]
