# OpenMMLab's schedule for ResNets on ImageNet, which MMRazor's distillers have: SGD, 0.1 per 256 images, x0.1 at 30, 60
# and 90 of 100 epochs. The rate follows the batch size.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = dict(type='MultiStepLR', milestones=[30, 60, 90], gamma=0.1)
train_stages = [dict(kind='train', epochs=100)]
train_cfg = dict(type='StagedLoop', stages=train_stages)
