# OFD (Heo et al., 2019), the overhaul of feature distillation; weights of mdistiller and MMRazor: 1/1000 of the sum of
# squares per image, each layer half of the next.
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student='preacts',
            teacher='preacts',
            connector=dict(type='ConvModuleConnector', norm_cfg=dict(type='BN'), act_cfg=None),
            teacher_connector=dict(type='OFDTeacherConnector'),
            loss=dict(type='OFDLoss'),
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='ofd')]
