"""Blocks that train apart: the same on any process and in any order, joined, resumed, and never trusted unseen."""

import copy
import json
from pathlib import Path

import pytest
import torch
from tiny import Killed, classifier, config, differing, loader, recasting, run, weights, without_seconds
from torch.utils.data import SequentialSampler

from mmrecast.engine import block_parallel
from mmrecast.engine.batches import for_one_process
from mmrecast.engine.block_parallel import read_block, shared_out
from mmrecast.utils.checkpoint import load_file, save_file

pytestmark = pytest.mark.usefixtures('quick')

BLOCKS = ['backbone.layer1.0', 'backbone.layer2.0', 'backbone.layer3.0']
SOLVED = recasting(start=dict(type='closed_form', images=40), block_input='teacher')
DROPPING = recasting(
    dict(type='PlainNet', dropout=0.3),
    recipe=[dict(source=['block1', 'block3'], target=dict(type='PlainBlock', dropout=0.2))],
    block_input='teacher',
)
APART = [dict(kind='recast', blocks='all', iters=4, parallel=True), dict(kind='finetune', iters=5)]
IN_TURN = [dict(APART[0], parallel=False), APART[1]]


def without_accuracy(result: dict) -> list[dict]:
    return [{k: v for k, v in record.items() if k not in ('top1', 'val_images')} for record in without_seconds(result)]


@pytest.fixture(scope='module')
def done(quick, tmp_path_factory):
    """Result and work dir of a run whose three blocks train apart."""
    folder = tmp_path_factory.mktemp('apart')
    return run(config(SOLVED, APART), folder), folder


def test_as_blocks_in_turn(done, tmp_path):
    """What comes before a teacher-fed block that starts from the closed form does not matter: same data, same bits."""
    result, folder = done
    in_turn = run(config(SOLVED, IN_TURN), tmp_path)
    assert differing(weights(folder), weights(tmp_path)) == []
    assert without_accuracy(result) == without_accuracy(in_turn)
    assert [s['block'] for s in result['stages']] == [*BLOCKS, None]
    assert [s['images'] for s in result['stages']] == [128, 128, 128, 160] and result['images'] == 544
    assert [s['top1'] for s in result['stages'][:2]] == [None, None]
    joined = [one['stages'][2] for one in (result, in_turn)]
    assert joined[0]['top1'] == joined[1]['top1'] and joined[0]['val_images'] == 60
    assert all(0 < s['relative_error'] < 1 for s in result['stages'][:3])
    assert result['seconds'] == pytest.approx(sum(s['seconds'] for s in result['stages']), abs=0.01)
    assert sorted(path.name for path in folder.glob('blocks/*')) == [f'{block}.pth' for block in BLOCKS]


def test_epochs_and_their_scheduler_count_whole_batches(tmp_path):
    """Blocks by epochs, whose rate falls by epochs, of batches that end unevenly."""
    changes = dict(
        train_dataloader=loader('train', 70, 32), param_scheduler=dict(type='StepLR', step_size=1, gamma=0.5)
    )
    stages = [dict(kind='recast', blocks='all', epochs=2, parallel=True), dict(kind='finetune', epochs=1)]
    result = run(config(SOLVED, stages, **changes), tmp_path / 'apart')
    stages[0]['parallel'] = False
    in_turn = run(config(SOLVED, stages, **changes), tmp_path / 'turn')
    assert differing(weights(tmp_path / 'apart'), weights(tmp_path / 'turn')) == []
    assert without_accuracy(result) == without_accuracy(in_turn)
    assert [(s['iters'], s['images']) for s in result['stages']] == [(6, 140)] * 3 + [(3, 70)]


def test_a_budget_holds_for_blocks_apart(tmp_path):
    stages = [dict(kind='recast', blocks='all', epochs=2, parallel=True), dict(kind='finetune', iters=4)]
    result = run(config(SOLVED, stages, loop=dict(budget=17)), tmp_path)  # each start reads two batches
    assert [s['iters'] for s in result['stages']] == [3, 3, 3, 2]
    assert sum(s['iters'] for s in result['stages']) + 3 * 2 == 17


def test_random_starts_and_dropout_do_not_depend_on_the_order(tmp_path, monkeypatch):
    """Xavier, dropout and loader processes draw by seed and block; another seed gives other bits."""
    changes = dict(train_dataloader=loader('train', 96, 32) | dict(num_workers=1))
    run(config(DROPPING, APART, **changes), tmp_path / 'one')
    share = block_parallel.shared_out
    monkeypatch.setattr(block_parallel, 'shared_out', lambda *args: [part[::-1] for part in share(*args)])
    run(config(DROPPING, APART, **changes), tmp_path / 'other')
    assert differing(weights(tmp_path / 'one'), weights(tmp_path / 'other')) == []
    run(config(DROPPING, APART, randomness=dict(seed=1), **changes), tmp_path / 'seed')
    assert {'block1.conv.weight', 'block3.conv.weight'} <= set(
        differing(weights(tmp_path / 'one'), weights(tmp_path / 'seed'))
    )


@pytest.mark.parametrize('next_block', ['teacher', 'fresh'])
def test_a_next_block_that_stays_is_joined_as_it_was_trained(tmp_path, next_block):
    """Only the middle block is recast; what follows it trains with it and is no target itself."""
    model = recasting(source=BLOCKS[1], block_input='teacher', next_block=next_block)
    run(config(model, APART[:1]), tmp_path)
    block = load_file(tmp_path / f'blocks/{BLOCKS[1]}.pth')['state']
    student = weights(tmp_path)
    trained = {name for name in student if name.startswith(tuple(f'{path}.' for path in BLOCKS[1:]))}
    assert set(block) == trained and differing(block, {name: student[name] for name in trained}) == []


# ---- resumed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('iteration', [2, 6, 10])
def test_killed_within_a_block(done, tmp_path, monkeypatch, iteration):
    """The last block trains first: of three, none, one or two are done when the run is killed."""
    result, folder = done
    with pytest.raises(Killed):
        run(config(SOLVED, APART), tmp_path, crash=dict(kind='iter', n=iteration))
    left = [f'{block}.pth' for block in BLOCKS[iteration // 4 + 1 :]]
    assert sorted(path.name for path in tmp_path.glob('blocks/*')) == left
    trained, train = [], block_parallel._trained
    monkeypatch.setattr(block_parallel, '_trained', lambda own, at: trained.append(own.stage.block) or train(own, at))
    resumed = run(config(SOLVED, APART), tmp_path, resume=True)
    assert trained == BLOCKS[: iteration // 4 + 1][::-1]
    assert differing(weights(folder), weights(tmp_path)) == []
    assert without_seconds(resumed) == without_seconds(result)


@pytest.mark.parametrize(('kind', 'n'), [('stage', 3), ('iter', 14)])
def test_killed_behind_the_blocks(done, tmp_path, monkeypatch, kind, n):
    """From the join on a checkpoint holds the whole student: no block is read again."""
    result, folder = done
    with pytest.raises(Killed):
        run(config(SOLVED, APART, checkpoint=dict(iter_interval=1)), tmp_path, crash=dict(kind=kind, n=n))
    monkeypatch.delattr(block_parallel, 'read_block')
    resumed = run(config(SOLVED, APART, checkpoint=dict(iter_interval=1)), tmp_path, resume=True)
    assert differing(weights(folder), weights(tmp_path)) == []
    assert without_seconds(resumed) == without_seconds(result)


def test_blocks_behind_another_stage(tmp_path):
    """A stage that trains in turn, then blocks apart: killed among them and resumed."""
    stages = [dict(IN_TURN[0], blocks=BLOCKS[0]), *APART]
    whole = run(config(SOLVED, stages), tmp_path / 'whole')
    with pytest.raises(Killed):
        run(config(SOLVED, stages), tmp_path / 'killed', crash=dict(kind='iter', n=6))
    resumed = run(config(SOLVED, stages), tmp_path / 'killed', resume=True)
    assert differing(weights(tmp_path / 'whole'), weights(tmp_path / 'killed')) == []
    assert without_seconds(resumed) == without_seconds(whole)
    assert [s['top1'] is None for s in whole['stages']] == [False, True, False, False]


def test_a_run_that_begins_does_not_use_what_it_finds(done, tmp_path):
    """Blocks of an earlier run in the same work dir are removed, even if they would fit."""
    with pytest.raises(Killed):
        run(config(SOLVED, APART), tmp_path, crash=dict(kind='iter', n=6))
    with pytest.raises(Killed):
        run(config(SOLVED, APART), tmp_path, crash=dict(kind='iter', n=9))
    assert list(tmp_path.glob('blocks/*')) == []


def spoilt(folder: Path, how: str) -> Path:
    """Spoil the file of the second block."""
    path = folder / f'blocks/{BLOCKS[1]}.pth'
    content = load_file(path)
    if how == 'cut':
        path.write_bytes(path.read_bytes()[:-2000])
    elif how == 'changed':
        content['state'][f'{BLOCKS[1]}.conv.weight'][0, 0, 0, 0] += 1
        save_file(content, path)
    elif how == 'foreign':
        content['fingerprint']['seed'] = 7
        save_file(content, path)
    else:
        save_file(dict(state=content['state']), path)
    return path


REASONS = dict(
    cut='is not a readable checkpoint', changed='its digest is not that', foreign='another seed', other='holds no block'
)


@pytest.mark.parametrize('how', REASONS)
def test_a_damaged_or_foreign_block_is_trained_again(done, tmp_path, caplog, monkeypatch, how):
    result, folder = done
    with pytest.raises(Killed):
        run(config(SOLVED, APART), tmp_path, crash=dict(kind='iter', n=2))
    path = spoilt(tmp_path, how)
    with pytest.raises(ValueError, match=REASONS[how]):
        read_block(path, load_file(folder / f'blocks/{BLOCKS[1]}.pth')['fingerprint'])
    trained, train = [], block_parallel._trained
    monkeypatch.setattr(block_parallel, '_trained', lambda own, at: trained.append(own.stage.block) or train(own, at))
    run(config(SOLVED, APART), tmp_path, resume=True)
    assert trained == [BLOCKS[1], BLOCKS[0]]
    assert differing(weights(folder), weights(tmp_path)) == []


def test_what_decides_on_a_block_is_in_its_fingerprint(done):
    _, folder = done
    prints = [load_file(folder / f'blocks/{block}.pth')['fingerprint'] for block in BLOCKS]
    assert set(prints[0]) == {'algorithm', 'recipe', 'options', 'teacher', 'seed', 'data', 'stage'}
    assert len({one['stage'] for one in prints}) == 3
    assert json.loads(json.dumps(prints[0])) == prints[0]


# ---- shared out -----------------------------------------------------------------------------------------------------


def test_what_takes_longest_goes_first_to_who_has_least():
    assert shared_out({0: 1, 1: 2, 2: 3, 3: 4}, 2) == [[3, 0], [2, 1]]
    assert shared_out({0: 5, 1: 5, 2: 9}, 2) == [[2], [0, 1]]
    assert shared_out({3: 1}, 4) == [[3], [], [], []]
    assert shared_out({}, 2) == [[], []]
    loads = [sum(part) for part in shared_out({i: i + 1 for i in range(27)}, 4)]
    assert sum(map(len, shared_out(dict.fromkeys(range(27), 1), 4))) == 27 and max(loads) - min(loads) <= 27


def test_a_lost_process_is_told_in_one_line(monkeypatch, tmp_path):
    def lost(*args, **kwargs):
        raise RuntimeError('Connection closed by peer [127.0.0.1]:1234\nand more')

    monkeypatch.setattr(block_parallel.torch_dist, 'all_gather_object', lost)
    monkeypatch.setattr(block_parallel.torch_dist, 'get_world_size', lambda group: 2)
    with pytest.raises(
        RuntimeError, match=r'a process was lost .*closed by peer \[127.0.0.1\]:1234.*go on with --resume$'
    ):
        block_parallel._gathered({}, object(), tmp_path)


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('model', 'stages', 'message'),
    [
        (recasting(), APART, "^recast: parallel=True needs block_input='teacher': given the student's, a block waits"),
        (SOLVED, [dict(APART[0], parallel='yes'), APART[1]], "^recast: parallel must be True or False, got 'yes'$"),
        (SOLVED, [dict(APART[0], paralel=True)], "unknown key 'paralel' in stage 'recast' .nearest: parallel"),
        (SOLVED, [APART[0], dict(APART[1], parallel=True)], '^finetune: parallel=True is for .* as only recast do$'),
        (SOLVED, [dict(kind='align', iters=1), *APART], '^align: no block is recast before it that it could train$'),
    ],
)
def test_mistakes_in_a_schedule(tmp_path, model, stages, message):
    with pytest.raises(ValueError, match=message):
        run(config(model, stages), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_plan_that_narrows(tmp_path):
    """Bottlenecks become convolutions of a quarter of the width: what reads them cannot be given the teacher's."""
    model = recasting(classifier(block='bottleneck', depth=20, widths=(2, 3, 4)), block_input='teacher')
    with pytest.raises(ValueError, match="block_input='teacher' needs the width kept before block 'backbone.layer1.1'"):
        run(config(model, APART), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_an_algorithm_whose_stages_build_on_one_another(tmp_path):
    model = dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=SOLVED['data_preprocessor'])
    with pytest.raises(ValueError, match='^train: parallel=True is for .*, as none of this algorithm do$'):
        run(config(model, [dict(kind='train', iters=1, parallel=True)]), tmp_path)


def test_a_sampler_that_shares_in_its_own_way(tmp_path):
    sampled = loader('train', 96, 32)
    sampled['sampler'] = dict(type='mmpretrain.RepeatAugSampler')
    with pytest.raises(
        ValueError, match='^parallel=True needs a DefaultSampler and a batch_size, got RepeatAugSampler$'
    ):
        run(config(SOLVED, APART, train_dataloader=sampled), tmp_path / 'run')
    plain = torch.utils.data.DataLoader(range(8), batch_size=2, sampler=SequentialSampler(range(8)))
    with pytest.raises(ValueError, match='got SequentialSampler'):
        for_one_process(plain, 0)


# ---- aligned --------------------------------------------------------------------------------------------------------


def test_aligned_behind_the_join(tmp_path):
    """Each block that was recast, in order, on the student's own input; resumed among them, the same bits."""
    stages = [APART[0], dict(kind='align', blocks='all', iters=3, val=False), APART[1]]
    whole = run(config(SOLVED, stages), tmp_path / 'whole')
    assert [(s['kind'], s['block']) for s in whole['stages'][3:6]] == [('align', block) for block in BLOCKS]
    assert all(s['relative_error_start'] > 0 and s['start_images'] == 0 for s in whole['stages'][3:6])
    with pytest.raises(Killed):
        run(config(SOLVED, copy.deepcopy(stages)), tmp_path / 'killed', crash=dict(kind='stage', n=4))
    resumed = run(config(SOLVED, stages), tmp_path / 'killed', resume=True)
    assert differing(weights(tmp_path / 'whole'), weights(tmp_path / 'killed')) == []
    assert without_seconds(resumed) == without_seconds(whole)
