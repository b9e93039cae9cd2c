# CRD (Tian et al., 2020); the authors' settings.
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student='penultimate',
            teacher='penultimate',
            connector=dict(type='CRDConnector', dim_out=128),
            teacher_connector=dict(type='CRDConnector', dim_out=128),
            loss=dict(type='CRDLoss', loss_weight=0.8, temperature=0.07, neg_num=16384, dim_out=128, momentum=0.5),
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='crd')]
