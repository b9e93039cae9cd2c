# RegNetY-16GF → DeiT-B with distillation token, MMRazor's pair; the teacher is timm's with the weights of DeiT's
# authors.
_base_ = [
    '../_base_/methods/deit.py',
    '../_base_/datasets/imagenet_deit.py',
    '../_base_/schedules/deit_imagenet.py',
    '../_base_/default_runtime.py',
]
model = dict(
    teacher=dict(type='TimmClassifier', name='regnety_160', weights='deit_in1k'),
    student=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='DistilledVisionTransformer', arch='deit-base', drop_path_rate=0.1),
        neck=None,
        head=dict(type='DeiTClsHead', num_classes=1000, in_channels=768),
    ),
)
