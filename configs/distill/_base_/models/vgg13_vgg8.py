# VGG-13 → VGG-8 of RepDistiller for 32x32 images: BN, no pooling behind the last two stages, the classifier on the mean
# of the last map. As there, what is before the first pooling counts as the stem, so that `stages` are the other four.
networks = {
    role: dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmrecast.CifarVGG', depth=depth, hidden=None, pools=3),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
    )
    for role, depth in (('teacher', 13), ('student', 8))
}
networks['taps'] = {
    role: dict(
        stem=f'backbone.features.{stem}',
        stages=['stage1', 'stage2', 'stage3', 'stage4'],
        preacts=[dict(path=f'backbone.features.{relu}', read='input') for relu in relus],
        stage1=f'backbone.features.{relus[0]}',
        stage2=f'backbone.features.{relus[1]}',
        stage3=f'backbone.features.{relus[2]}',
        stage4=f'backbone.features.{relus[3]}',
        last='stage4',
        hint='stage2',
        penultimate=dict(path='head.fc', read='input'),
    )
    for role, stem, relus in (('teacher', 5, (12, 19, 26, 32)), ('student', 2, (6, 10, 14, 17)))
}
