# Born-again networks (Furlanello et al., 2018): labels, and at τ = 1 the previous generation of the same network.
model = dict(
    type='SingleTeacherDistill',
    links=[dict(student='logits', teacher='logits', loss=dict(type='KLDivergence'))],
)
custom_hooks = [dict(type='ResultHook', method='born_again')]
