default_scope = 'mmrecast'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100, interval_exp_name=10**9),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='StagedCheckpointHook', interval=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
log_processor = dict(type='StagedLogProcessor')
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
randomness = dict(seed=0)
runner_type = 'StagedRunner'
