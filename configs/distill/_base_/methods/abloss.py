# AB (Heo et al., 2019): first the activation boundaries alone, with a 1x1 convolution and BN behind each of the
# student's layers, then the labels alone; margin and weights of RepDistiller.
_base_ = '../schedules/pretrain_cifar.py'
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student='preacts',
            teacher='preacts',
            connector=dict(type='ConvModuleConnector', norm_cfg=dict(type='BN'), act_cfg=None),
            loss=dict(type='ABLoss', margin=1.0),
            stage='pretrain',
            name='boundaries',
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='abloss')]
