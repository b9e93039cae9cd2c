# The authors' CIFAR teachers (Network Recasting), batch 128: SGD with Nesterov momentum, 0.1, x0.2 at 60, 120 and 150
# of 180 epochs.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
)
param_scheduler = dict(type='MultiStepLR', milestones=[60, 120, 150], gamma=0.2)
train_cfg = dict(type='StagedLoop', stages=[dict(kind='train', epochs=180)])
