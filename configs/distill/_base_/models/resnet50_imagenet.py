# torchvision's ResNet-50 with the weights of which the paper prints the error (23.85 %).
teacher = dict(type='TorchvisionClassifier', name='resnet50', weights='IMAGENET1K_V1')
