import dataclasses

from mmrecast.analysis.comparison import Comparison
from mmrecast.analysis.footnotes import notes, settings
from mmrecast.analysis.rows import Measures


def test_settings_give_every_value_once(make_result, measures):
    results = [make_result(train_images=50_000, path='a/result.json'), make_result('kd', seed=1, train_images=50_000)]
    found = dict(settings(Comparison(results, measures), 'python x'))
    assert found == {
        'command': ['python x'],
        'runs': ['a/result.json'],
        'config': ['configs/distill/recasting.py', 'configs/distill/kd.py'],
        'data': ['CIFAR10, 10 classes, 50,000 training images, 1,000 test images'],
        'data root': ['/data'],
        'input': ['3×32×32'],
        'seeds': ['0, 1'],
        'budget': [
            'recasting: 3,840 images, 40 s of training per run', 'kd: 3,840 images, 40 s of training per run',
        ],
        'machine': ['cpu a CPU, cores 2, threads 1, processes 1'],
        'versions': ['torch 2.13.0, mmrecast 0.1.0'],
        'latency': ['batch of 2, cpu, 1 thread, median of 7 rounds in which all networks take turns'],
    }  # fmt: skip


def test_what_is_not_known_is_left_out(make_result):
    bare = make_result(config=None, classes=None, val_images=None, data_root='', machine=None, versions={})
    found = dict(settings(Comparison([bare])))
    assert set(found) == {'data', 'input', 'seeds', 'budget'} and found['data'] == ['CIFAR10']


def test_notes_say_what_the_table_needs(make_result, measures):
    said = '\n'.join(notes(Comparison([make_result(), make_result(seed=1)], measures, notes=('kd: not there.',))))
    assert said.startswith('kd: not there.\nGap to teacher')
    for words in ('± is the sample', 'of convolutions only', 'Latency is', 'Speed-up:', 'Relative error'):
        assert words in said
    plain = notes(Comparison([make_result(teacher=None, stages=[dict(top1=1.0)])]))
    assert plain == ['Images seen: those trained on.']


def test_notes_on_blocks_taken_back(make_result):
    back = dict(regression='rolled back to the source block', relative_error=0.0, relative_error_trained=0.3125)
    said = notes(Comparison([make_result(seed=3, stages=[dict(block='layer1.0', **back), dict(block='layer1.1')])]))
    assert said[-1] == (
        'recasting, seed 3: layer1.0 rolled back to the source block, relative error 0.3125 after training.'
    )


def test_notes_on_starts_conventions_and_what_is_not_counted(make_result, measures):
    odd = dataclasses.replace(measures['teacher'].complexity, convention='imagenet', uncounted=('matmul',))
    results = [make_result(stages=[dict(start_images=1024)])]
    said = '\n'.join(notes(Comparison(results, measures | dict(teacher=Measures(odd)))))
    assert 'those that closed-form starts read' in said
    assert 'of convolutions and the classifier only' in said and 'of convolutions only' in said
    assert 'Run but not counted: matmul.' in said
