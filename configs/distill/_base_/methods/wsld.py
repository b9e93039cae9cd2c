# WSLD (Zhou et al., 2021); temperature and weight of the authors' code for ImageNet, and of MMRazor.
model = dict(
    type='SingleTeacherDistill',
    links=[dict(student='logits', teacher='logits', loss=dict(type='WSLD', tau=2.0, loss_weight=2.5))],
)
custom_hooks = [dict(type='ResultHook', method='wsld')]
