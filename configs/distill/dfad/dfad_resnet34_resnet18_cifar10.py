_base_ = ['../_base_/methods/dfad.py', '../_base_/pairs/resnet34_resnet18_cifar10.py']
model = _base_.networks
train_dataloader = dict(batch_size=_base_.generated_batch)  # of the images generated; real ones are not looked at
train_cfg = dict(stages=_base_.data_free_stages)
