# The authors' CIFAR schedule (Network Recasting): Adam, batch 64, 60 epochs per block at 1e-3 and 100 of fine-tuning,
# both x0.1 every 20 epochs.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = dict(type='StepLR', step_size=20, gamma=0.1)
train_cfg = dict(
    type='StagedLoop', stages=[dict(kind='recast', blocks='all', epochs=60), dict(kind='finetune', epochs=100)]
)
