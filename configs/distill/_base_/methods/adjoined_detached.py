# An adjoined network whose full network does not follow the small one: the divergence has no gradient for its logits.
_base_ = './adjoined.py'
model = dict(kd_loss=dict(teacher_detach=True))
custom_hooks = [dict(type='ResultHook', method='adjoined_detached')]
