"""Stages are checked when they are made."""

import dataclasses

import pytest

from mmrecast.stages import Stage


def test_length():
    assert Stage('recast', epochs=3).total_iters(7) == 21
    assert Stage('recast', iters=5).total_iters(7) == 5
    assert Stage('recast', iters=0).total_iters(7) == 0


def test_name():
    assert Stage('finetune', iters=1).name == 'finetune'
    assert Stage('recast', iters=1, block='layer1.0').name == 'recast layer1.0'


def test_from_config_copies():
    """The config a stage is made of is neither changed nor shared."""
    optim = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    entry = dict(kind='train', epochs=2, optim_wrapper=optim, val=False)
    stage = Stage.from_config(entry)
    assert (stage.kind, stage.epochs, stage.iters, stage.val, stage.blocks) == ('train', 2, None, False, None)
    assert stage.optim_wrapper == optim and stage.optim_wrapper['optimizer'] is not optim['optimizer']
    assert entry == dict(kind='train', epochs=2, optim_wrapper=optim, val=False)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Stage('train', iters=1).iters = 2


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (dict(kind='train'), 'train: give exactly one of epochs and iters, got None and None'),
        (dict(kind='train', epochs=1, iters=2), 'train: give exactly one of epochs and iters, got 1 and 2'),
        (dict(kind='train', epochs=-1), 'train: epochs must be a whole number of at least 1, got -1'),
        (dict(kind='train', iters=2.5), 'train: iters must be a whole number of at least 1, got 2.5'),
        (dict(kind='train', iters=True), 'train: iters must be a whole number of at least 1, got True'),
        (dict(kind='train', iters='10'), "train: iters must be a whole number of at least 1, got '10'"),
        (dict(epochs=1), 'a stage needs a kind'),
        (dict(kind=3, epochs=1), 'the kind of a stage is a word, got 3'),
        (dict(kind='a\nb', epochs=1), 'the kind of a stage is a word, got .a.nb'),
        (dict(kind='train', epoch=1), "unknown key 'epoch' in stage 'train' .nearest: epochs"),
        (dict(kind='recast', epochs=1, block='layer1.0'), "unknown key 'block' in stage 'recast' .nearest: blocks"),
        (['train'], "a stage is .*got \\['train'\\]"),
        ('train', "a stage is .*got 'train'"),
    ],
)
def test_wrong_entries(entry, message):
    with pytest.raises(ValueError, match=message):
        Stage.from_config(entry)
