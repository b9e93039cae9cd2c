# SP (Tung and Mori, 2019); weight of RepDistiller.
model = dict(
    type='SingleTeacherDistill',
    links=[dict(student='last', teacher='last', loss=dict(type='SPLoss', loss_weight=3000.0))],
)
custom_hooks = [dict(type='ResultHook', method='sp')]
