_base_ = ['../_base_/methods/byot.py', '../_base_/pairs/resnet34_resnet18_cifar10.py']
model = dict(
    student=_base_.networks.student,
    taps=dict(student=_base_.networks.taps.student),
    links=_base_.exits_of_four,
)
