# Differentiable Adjoined Networks (Nath et al., 2020): a search for the width of every group of layers, then AN with
# the widths found. γ, the weight of the cost in the search, is the network's own and stands in the leaf. WidthHook
# keeps the probabilities in widths.json.
model = dict(
    type='DifferentiableAdjoinedNetwork',
    divisors=(1, 2, 4),
    cost=dict(type='mults'),
    tau=15.0,
    task_loss=dict(type='CrossEntropyLoss'),
    kd_loss=dict(type='KLDivergence', tau=1.0, teacher_detach=False),
    kl_weight=1.0,
    warmup=0.5,
)
custom_hooks = [dict(type='ResultHook', method='dan'), dict(type='WidthHook')]
