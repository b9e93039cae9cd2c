# For the closed-form start on the digits, batch 128: 3 iterations per block, then 78 of fine-tuning.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=3e-4))
param_scheduler = dict(type='CosineAnnealingLR')
faster = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
train_cfg = dict(
    type='StagedLoop',
    stages=[
        dict(kind='recast', blocks='all', iters=3),
        dict(kind='finetune', iters=78, optim_wrapper=faster),
    ],
)
