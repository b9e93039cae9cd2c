# NST (Huang and Wang, 2017); weight of RepDistiller.
model = dict(
    type='SingleTeacherDistill',
    links=[dict(student='stages', teacher='stages', loss=dict(type='NSTLoss', loss_weight=50.0))],
)
custom_hooks = [dict(type='ResultHook', method='nst')]
