# ResNet-18 on ImageNet, torchvision's, from scratch; 200 images in all, on four GPUs 50 each.
_base_ = [
    '../datasets/imagenet.py',
    '../schedules/adjoined_100epochs.py',
    '../default_runtime.py',
]
network = dict(type='TorchvisionClassifier', name='resnet18')
train_dataloader = dict(batch_size=200)
