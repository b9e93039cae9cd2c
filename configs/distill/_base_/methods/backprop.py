# Back propagation: a network alone with the labels.
model = dict(type='SingleTeacherDistill')
custom_hooks = [dict(type='ResultHook', method='backprop')]
