# torchvision's VGG-16 with BN and its own weights: the one whose error the paper prints (26.63 %).
teacher = dict(type='TorchvisionClassifier', name='vgg16_bn', weights='IMAGENET1K_V1')
