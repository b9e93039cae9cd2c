# torchvision's DenseNet-121 with its own weights.
teacher = dict(type='TorchvisionClassifier', name='densenet121', weights='IMAGENET1K_V1')
