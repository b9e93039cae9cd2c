_base_ = ['../_base_/methods/backprop.py', '../_base_/singles/resnet14b_digits.py']
model = dict(student=_base_.network)
