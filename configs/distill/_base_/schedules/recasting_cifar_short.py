# For the closed-form start on two cores: 60 iterations per block and three epochs of fine-tuning, batch 128.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR')
gentle = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=5e-4))
train_cfg = dict(
    type='StagedLoop',
    stages=[
        dict(kind='recast', blocks='all', iters=60),
        dict(kind='finetune', epochs=3, optim_wrapper=gentle),
    ],
)
