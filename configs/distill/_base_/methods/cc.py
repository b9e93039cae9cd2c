# CC (Peng et al., 2019); loss, embeddings and weight of RepDistiller.
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student='penultimate',
            teacher='penultimate',
            connector=dict(type='LinearEmbed', dim_out=128),
            teacher_connector=dict(type='LinearEmbed', dim_out=128),
            loss=dict(type='CCLoss', loss_weight=0.02),
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='cc')]
