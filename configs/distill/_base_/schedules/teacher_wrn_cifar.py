# The authors' WRN on CIFAR, batch 128: x0.2 at 60, 120 and 160 of 200 epochs, and more weight decay.
_base_ = './teacher_cifar.py'
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = dict(milestones=[60, 120, 160])
train_cfg = dict(stages=[dict(kind='train', epochs=200)])
