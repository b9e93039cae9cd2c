# The authors' DenseNet on CIFAR, batch 64: x0.2 at 150 and 225 of 300 epochs.
_base_ = './teacher_cifar.py'
param_scheduler = dict(milestones=[150, 225])
train_cfg = dict(stages=[dict(kind='train', epochs=300)])
