# Adjoined Networks (Nath et al., 2020): one pass through the full network and through a narrow one of its first
# filters; labels for the full one, its predictions for the narrow one, at the authors' weight min(4 (e/E)², 1).
model = dict(
    type='AdjoinedNetwork',
    task_loss=dict(type='CrossEntropyLoss'),
    kd_loss=dict(type='KLDivergence', tau=1.0, teacher_detach=False),
    kl_weight=1.0,
    warmup=0.5,
)
custom_hooks = [dict(type='ResultHook', method='adjoined')]
