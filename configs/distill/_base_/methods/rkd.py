# RKD (Park et al., 2019); weights of RepDistiller, which leaves the features at their length.
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            name='distance',
            student='penultimate',
            teacher='penultimate',
            loss=dict(type='DistanceWiseRKD', loss_weight=25.0, with_l2_norm=False),
        ),
        dict(
            name='angle',
            student='penultimate',
            teacher='penultimate',
            loss=dict(type='AngleWiseRKD', loss_weight=50.0, with_l2_norm=False),
        ),
    ],
)
custom_hooks = [dict(type='ResultHook', method='rkd')]
