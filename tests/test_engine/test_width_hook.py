"""What is kept and said of a search for widths."""

import json
import math

import pytest
from searching import decay, search
from tiny import NO_TEST, NO_VAL, Killed, classifier, config, preprocessor, run

from mmrecast.apis import ready_runner
from mmrecast.engine import WidthHook
from mmrecast.engine.width_hook import chosen_divisor, expected_width

pytestmark = pytest.mark.usefixtures('quick')

SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.5))


def searched(work_dir, stages, crash=None, resume=False, interval=1, model=None, **changes):
    """Train with the hook and return the records; an epoch is three iterations."""
    quiet = NO_VAL | NO_TEST | dict(optim_wrapper=SGD, param_scheduler=[decay(0.5, by_epoch=True)])
    hook = dict(type='WidthHook', interval=interval)
    cfg = config(model or search(tau=8.0, gamma=0.5), stages, hooks=[hook], **quiet | changes)
    run(cfg, work_dir, crash, resume=resume)
    return kept(work_dir)


def kept(work_dir):
    return json.loads((work_dir / 'widths.json').read_text())


def places(records):
    return [(record['stage'], record['epoch'], record['iter']) for record in records]


def by_epochs(epochs, kind='search'):
    return dict(kind=kind, epochs=epochs, val=False)


def test_records(tmp_path):
    records = searched(tmp_path, [by_epochs(2), by_epochs(1, 'train')])
    assert places(records) == [(0, 0, 0), (0, 1, 3), (0, 2, 6)]  # nothing of the training that follows
    assert [(record['tau'], record['gamma']) for record in records] == [(8, 0.5), (4, 0.5), (4, 0.5)]
    first, second = (records[0]['groups'][name] for name in ('first', 'second'))
    assert first['widths'] == [8, 4, 2] and second['widths'] == [16, 8, 4]
    assert first['divisors'] == second['divisors'] == [1, 2, 4] and second['layers'] == ['second.conv']
    assert first['probabilities'] == pytest.approx([1 / 3] * 3)
    powers = [math.exp(0.3), math.exp(0.1), 1.0]
    assert second['probabilities'] == pytest.approx([p / sum(powers) for p in powers])
    narrow = [record['groups']['second']['probabilities'][2] for record in records]
    assert narrow == sorted(set(narrow))  # the cost, and nothing else, moves it: to the narrowest


def test_the_last_record_is_what_the_search_ended_with(tmp_path):
    quiet = NO_VAL | NO_TEST | dict(optim_wrapper=SGD)
    cfg = config(search(gamma=0.5), [by_epochs(1)], hooks=[dict(type='WidthHook')], **quiet)
    runner = ready_runner(cfg, work_dir=str(tmp_path))
    runner.train()
    expected = runner.bare_model.logits.detach().softmax(1).tolist()
    assert [group['probabilities'] for group in kept(tmp_path)[-1]['groups'].values()] == expected


@pytest.mark.parametrize(
    ('stages', 'expected'),
    [
        ([by_epochs(5)], [(0, 0, 0), (0, 2, 6), (0, 4, 12), (0, 5, 15)]),
        ([by_epochs(4)], [(0, 0, 0), (0, 2, 6), (0, 4, 12)]),
        ([dict(kind='search', iters=4, val=False)], [(0, 0, 0), (0, 2, 4)]),
        ([by_epochs(1), by_epochs(3)], [(0, 0, 0), (0, 1, 3), (1, 1, 3), (1, 3, 9), (1, 4, 12)]),
        ([by_epochs(1, 'train'), by_epochs(1), by_epochs(1)], [(1, 1, 3), (1, 2, 6), (2, 2, 6), (2, 3, 9)]),
    ],
)
def test_intervals_and_ends(tmp_path, stages, expected):
    assert places(searched(tmp_path, stages, interval=2)) == expected


KILLS = [('iter', 2), ('epoch', 1), ('epoch', 2, True), ('iter', 8), ('stage', 1, True), ('stage', 1)]


@pytest.mark.parametrize('kill', KILLS)
@pytest.mark.parametrize('interval', [1, 2])
def test_a_resumed_run_goes_on_with_the_file(tmp_path, kill, interval):
    """Checkpoints are written at every second iteration and epoch: what came after is trained and kept anew."""
    crash = dict(zip(('kind', 'n', 'before'), kill, strict=False))
    stages = [by_epochs(3), by_epochs(2)]
    same = dict(interval=interval, checkpoint=dict(interval=2, iter_interval=2))
    whole = searched(tmp_path / 'whole', stages, **same)
    with pytest.raises(Killed):
        searched(tmp_path / 'cut', stages, crash, **same)
    assert 0 < len(kept(tmp_path / 'cut')) < len(whole)
    assert searched(tmp_path / 'cut', stages, resume=True, **same) == whole
    assert searched(tmp_path / 'cut', stages, resume=True, **same) == whole  # finished: nothing is added


def test_records_after_the_checkpoint_are_dropped_at_once(tmp_path):
    """Resumed at iteration 2 of an epoch, from which no record is due before its end."""
    stages = [by_epochs(3)]
    searched(tmp_path, stages, checkpoint=dict(interval=None, iter_interval=2))
    records = kept(tmp_path)
    (tmp_path / 'widths.json').write_text(json.dumps([*records, records[-1] | dict(iter=99, epoch=33)]))
    path = tmp_path / 'stage000_iter00000008.pth'
    assert path.is_file()
    quiet = NO_VAL | NO_TEST | dict(optim_wrapper=SGD, param_scheduler=[decay(0.5, by_epoch=True)])
    cfg = config(search(tau=8.0, gamma=0.5), stages, hooks=[dict(type='WidthHook', interval=9)], **quiet)
    run(cfg, tmp_path, resume=str(path))
    assert kept(tmp_path) == records  # of epochs 1 and 2 from before, of the end from now


def test_a_new_run_begins_the_file_anew(tmp_path):
    searched(tmp_path, [by_epochs(3)])
    assert places(searched(tmp_path, [by_epochs(1)])) == [(0, 0, 0), (0, 1, 3)]
    assert not list(tmp_path.glob('.widths*'))


def test_a_damaged_file(tmp_path):
    with pytest.raises(Killed):
        searched(tmp_path, [by_epochs(2)], dict(kind='epoch', n=1))
    for text in ('[{"stage": 0', '[{"stage": 0}]', '[1]'):
        (tmp_path / 'widths.json').write_text(text)
        with pytest.raises(ValueError, match=r'widths.json is damaged \(.*\): move it away to go on without it'):
            searched(tmp_path, [by_epochs(2)], resume=True)


def test_expected_widths_are_scalars_and_the_choice_is_told(tmp_path, capfd):
    records = searched(tmp_path, [by_epochs(2)], log_level='INFO')
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines() if 'widths/' in line]
    assert [row['step'] for row in rows] == [0, 3, 6, 6]
    for row, record in zip(rows, [*records, records[-1]], strict=True):
        for name, full in (('first', 8), ('second', 16)):
            wide, half, quarter = record['groups'][name]['probabilities']
            assert row[f'widths/{name}'] == pytest.approx(full * (wide + half / 2 + quarter / 4))
    text = capfd.readouterr()
    assert 'search: widths of 2 groups, divisor 4: 2\n' in text.out + text.err
    assert 'widths/' not in text.out + text.err  # too many for a line


def test_choice_and_expectation():
    group = dict(widths=[128, 64, 32], divisors=[4, 8, 16], probabilities=[0.25, 0.5, 0.25])
    assert chosen_divisor(group) == 8 and expected_width(group) == 72
    assert chosen_divisor(group | dict(probabilities=[0.5, 0.5, 0.0])) == 4


def test_the_search_of_dan(tmp_path):
    """One group of each block that is wide enough narrows; what adds up with the stem keeps its width."""
    model = dict(
        type='DifferentiableAdjoinedNetwork', network=classifier(widths=(8, 16, 32)), above=8, divisors=(2, 4),
        gamma=1e-4, data_preprocessor=preprocessor(),
    )  # fmt: skip
    hooks = dict(logger=dict(type='LoggerHook', interval=3), checkpoint=dict(type='StagedCheckpointHook'))
    records = searched(tmp_path, [by_epochs(1), by_epochs(1, 'train')], model=model, default_hooks=hooks)
    assert places(records) == [(0, 0, 0), (0, 1, 3)]
    groups = records[0]['groups']
    assert list(groups) == ['backbone.layer2.0.conv1', 'backbone.layer3.0.conv1']
    for (name, group), widths in zip(groups.items(), ([8, 4], [16, 8]), strict=True):
        assert group == dict(widths=widths, divisors=[2, 4], probabilities=[0.5, 0.5], layers=[name])
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    rows = [row for row in map(json.loads, log.read_text().splitlines()) if 'loss' in row]
    assert [{'cost', 'loss_cost'} <= set(row) for row in rows] == [True, False]  # nothing stands on from the search
    assert not {'cost', 'loss_cost'} & set(rows[1]) and {'loss_kd', 'lr', 'tau', 'time'} <= set(rows[1])


@pytest.mark.parametrize('interval', [0, -1, 1.5, True, '2'])
def test_wrong_intervals(interval):
    with pytest.raises(ValueError, match='interval of the WidthHook must be a whole number of at least 1, got'):
        WidthHook(interval)


def test_an_algorithm_without_widths(tmp_path):
    model = dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=preprocessor())
    cfg = config(model, [by_epochs(1, 'train')], hooks=[dict(type='WidthHook')])
    with pytest.raises(ValueError, match='for algorithms that choose widths, SingleTeacherDistill does not: leave the'):
        ready_runner(cfg, work_dir=str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()
