# Regression of the logits (Ba and Caruana, 2014) without labels: ½‖z_s − z_t‖², here over the number of classes, since
# the sum over them diverges at the learning rates of the other methods.
model = dict(
    type='SingleTeacherDistill',
    task_loss=None,
    links=[
        dict(
            student='logits',
            teacher='logits',
            loss=dict(type='L2Loss', normalize=False, div_element=True, loss_weight=0.5),
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='l2')]
