# OpenMMLab's schedule for MobileNetV2 on ImageNet: SGD, 0.045 per 256 images, x0.98 every epoch, 300 epochs. The rate
# follows the batch size.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.045, momentum=0.9, weight_decay=4e-5))
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = dict(type='StepLR', step_size=1, gamma=0.98)
train_stages = [dict(kind='train', epochs=300)]
train_cfg = dict(type='StagedLoop', stages=train_stages)
