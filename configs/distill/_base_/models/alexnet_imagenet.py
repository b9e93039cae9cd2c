# torchvision's AlexNet with its own weights.
teacher = dict(type='TorchvisionClassifier', name='alexnet', weights='IMAGENET1K_V1')
