# BYOT (Zhang et al., 2019): an exit behind every stage but the last; weights of MMRazor and the authors, who leave the
# feature of the last exit alone. A leaf of a network with four stages says links=_base_.exits_of_four.
exits_of_three, exits_of_four = (
    [
        dict(
            student=f'stage{i}',
            teacher=['penultimate', 'logits'],
            connector=dict(type='BYOTConnector'),
            loss=dict(type='BYOTLoss', feature_weight=0.0 if i == last else 0.03),
            name=f'exit{i}',
        )
        for i in range(1, last + 1)
    ]
    for last in (2, 3)
)
model = dict(type='SelfDistill', links=exits_of_three)
custom_hooks = [dict(type='ResultHook', method='byot')]
