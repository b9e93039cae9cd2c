# Logit standardisation (Sun et al., 2024) before KD; base temperature and weights of the paper.
model = dict(
    type='SingleTeacherDistill',
    task_loss=dict(type='CrossEntropyLoss', loss_weight=0.1),
    links=[
        dict(
            student='logits',
            teacher='logits',
            connector=dict(type='LogitStandardization'),
            teacher_connector=dict(type='LogitStandardization'),
            loss=dict(type='KLDivergence', tau=2.0, loss_weight=9.0),
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='logit_std')]
