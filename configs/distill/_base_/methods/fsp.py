# FSP (Yim et al., 2017): first the FSP matrices alone, then the labels alone, as in the paper and in RepDistiller's
# loop (whose `-b 50` multiplies nothing).
_base_ = '../schedules/pretrain_cifar.py'
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student=['stem', 'stages'],
            teacher=['stem', 'stages'],
            loss=dict(type='FSPLoss'),
            stage='pretrain',
            name='flow',
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='fsp')]
