# PKT (Passalis and Tefas, 2018); weight of RepDistiller.
model = dict(
    type='SingleTeacherDistill',
    links=[dict(student='penultimate', teacher='penultimate', loss=dict(type='PKTLoss', loss_weight=30000.0))],
)
custom_hooks = [dict(type='ResultHook', method='pkt')]
