_base_ = './runtime.py'
custom_hooks = [dict(type='ResultHook')]
