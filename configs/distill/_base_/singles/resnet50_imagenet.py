# ResNet-50 on ImageNet, torchvision's, from scratch.
_base_ = './resnet18_imagenet.py'
network = dict(name='resnet50')
