# OpenMMLab's schedule for ResNets on CIFAR-10, which MMRazor's distillers have, batch 128: SGD, 0.1, x0.1 at 100 and
# 150 of 200 epochs.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', milestones=[100, 150], gamma=0.1)
train_stages = [dict(kind='train', epochs=200)]
train_cfg = dict(type='StagedLoop', stages=train_stages)
