# CIFAR-100 as CIFAR-10, normalised by mean and standard deviation of its own training images (0..255, RGB).
_base_ = './cifar10.py'
dataset_type = 'CIFAR100'
data_root = 'data/cifar100'
data_preprocessor = dict(mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418])
train_dataloader = dict(dataset=dict(type=dataset_type, data_root=data_root))
val_dataloader = dict(dataset=dict(type=dataset_type, data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator
