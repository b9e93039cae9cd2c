# The authors' ILSVRC schedule (Network Recasting): Adam, batch 64 (ResNet-50: 128), 10 epochs per block at 5e-4 and 20
# of fine-tuning at 1e-4, both x0.1 every 7 epochs.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=5e-4))
param_scheduler = dict(type='StepLR', step_size=7, gamma=0.1)
slower = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4))
train_cfg = dict(
    type='StagedLoop',
    stages=[dict(kind='recast', blocks='all', epochs=10), dict(kind='finetune', epochs=20, optim_wrapper=slower)],
)
