# AT (Zagoruyko and Komodakis, 2017); weight of RepDistiller and mdistiller.
model = dict(
    type='SingleTeacherDistill',
    links=[dict(student='stages', teacher='stages', loss=dict(type='ATLoss', loss_weight=1000.0))],
)
custom_hooks = [dict(type='ResultHook', method='at')]
