"""Checkpoint files: when they are written, which stay, that they are whole, and what can be done with one."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from tiny import Killed, classifier, config, differing, recasting, run, write

from mmrecast.apis import load_student, ready_runner, save_student
from mmrecast.apis.train import build_runner, prepare
from mmrecast.engine import StagedCheckpointHook
from mmrecast.engine.checkpoints import latest_checkpoint, read_checkpoint
from mmrecast.registry import HOOKS
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

STAGES = [dict(kind='recast', blocks='all', epochs=2), dict(kind='finetune', iters=4)]
FILES: list[list[str]] = []


@HOOKS.register_module()
class Inspect(Hook):
    """Look at the work dir at every position: `last_checkpoint` names a whole file, nothing unfinished lies about."""

    priority = 'LOWEST'

    def at_position(self, runner, kind: str) -> None:
        folder = Path(runner.work_dir)
        FILES.append(sorted(path.name for path in folder.glob('*.pth')))
        if FILES[-1]:
            content = load_file((folder / 'last_checkpoint').read_text())
            assert content['staged']['iter'] <= runner.train_loop.iter
            assert Path((folder / 'last_checkpoint').read_text()).name == FILES[-1][-1]
        assert not [path for path in folder.iterdir() if path.suffix == '.tmp' or path.name.startswith('.')]


def kept(tmp_path, **checkpoint) -> list[list[str]]:
    FILES.clear()
    run(config(recasting(), STAGES, checkpoint=checkpoint, hooks=[dict(type='Inspect')]), tmp_path)
    return [[f'{int(name[5:8])}:{int(name[13:21])}' for name in names if name != 'student.pth'] for names in FILES]


def test_defaults_keep_two(tmp_path):
    """At the end of every epoch and of every stage; the two newest stay."""
    history = kept(tmp_path)
    assert history[:4] == [[], [], [], ['0:3']]
    assert history[7:10] == [['0:3', '0:6'], ['0:6', '1:6'], ['0:6', '1:6']]
    assert all(len(files) <= 2 for files in history)
    assert history[-1] == ['3:22', '4:22']


def test_iterations_and_one_file(tmp_path):
    """Every fourth iteration of the run and the ends of stages, one file at a time."""
    history = kept(tmp_path, interval=None, iter_interval=4, max_keep_ckpts=1)
    assert [files for i, files in enumerate(history) if files and files != history[i - 1]] == [
        ['0:4'], ['1:6'], ['1:8'], ['1:12'], ['2:12'], ['2:16'], ['3:18'], ['3:20'], ['4:22']
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(interval=0), 'interval of the checkpoint hook must be at least 1, got 0'),
        (dict(max_keep_ckpts=0), 'max_keep_ckpts of the checkpoint hook must be at least 1, got 0'),
        (dict(iter_interval='2'), "iter_interval of the checkpoint hook must be at least 1, got '2'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        StagedCheckpointHook(**options)


def test_the_previous_file_stays_when_writing_fails(tmp_path, monkeypatch):
    """A full disk leaves the last checkpoint as it was, and `last_checkpoint` naming it."""
    written = []
    real_save = torch.save

    def save(content, file, *args, **kwargs):
        if len(written) == 2:
            file.write(b'half of it')
            raise OSError('no space left on device')
        written.append(content)
        return real_save(content, file, *args, **kwargs)

    monkeypatch.setattr(torch, 'save', save)
    with pytest.raises(OSError, match='no space left'):
        run(config(recasting(), STAGES), tmp_path)
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [
        'stage000_iter00000003.pth',
        'stage000_iter00000006.pth',
    ]
    assert load_file((tmp_path / 'last_checkpoint').read_text())['staged']['iter'] == 6
    assert not list(tmp_path.glob('.*'))


def test_leftovers_of_a_kill_while_writing_are_removed(tmp_path):
    with pytest.raises(Killed):
        run(config(recasting(), STAGES), tmp_path, dict(kind='epoch', n=1))
    (tmp_path / 'blocks').mkdir()
    mine = tmp_path / '.notes.tmp'
    leftovers = [
        tmp_path / f'.{name}.{"0a1b" * 8}.tmp' for name in ('stage000_iter00000006.pth', 'result.json', 'student.pth')
    ]
    leftovers.append(tmp_path / 'blocks' / leftovers[0].name)
    for path in (mine, *leftovers):
        path.write_bytes(b'half of it')
    run(config(recasting(), STAGES), tmp_path, resume=True)
    assert not [path for path in leftovers if path.exists()] and mine.exists()


def test_the_config_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    """Half a config may well be a config: that of another run."""
    cfg, kept = Config.fromfile(write(config(recasting(), STAGES), tmp_path / 'kept.py')), tmp_path / 'run' / 'kept.py'
    kept.parent.mkdir()
    kept.write_text('former = 1\n')
    monkeypatch.setattr('os.replace', lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        run(cfg, kept.parent)
    assert kept.read_text() == 'former = 1\n' and not (kept.parent / 'train.lock').exists()
    monkeypatch.undo()
    run(cfg, kept.parent)
    assert "runner_type = 'StagedRunner'" in kept.read_text()


def test_a_run_holds_its_work_dir_while_it_trains(tmp_path):
    """A mistake and the end both let it go; a test of a checkpoint takes nothing."""
    runner = ready_runner(config(recasting(), STAGES), work_dir=str(tmp_path))
    assert f'process {os.getpid()} on' in (tmp_path / 'train.lock').read_text()
    runner.train()
    assert not (tmp_path / 'train.lock').exists()
    with pytest.raises(ValueError, match='must be a whole number'):
        ready_runner(config(recasting(), STAGES, loop=dict(val_interval=0)), work_dir=str(tmp_path))
    build_runner(prepare(config(recasting(), STAGES), work_dir=str(tmp_path)))
    assert not (tmp_path / 'train.lock').exists()


def test_content(tmp_path):
    """Plain data and tensors only: weights, optimiser, schedulers, position, random states; no teacher."""
    with pytest.raises(Killed):
        run(config(recasting(), STAGES), tmp_path, dict(kind='epoch', n=3))
    content = load_file((tmp_path / 'last_checkpoint').read_text())
    assert {'state_dict', 'optimizer', 'param_schedulers', 'staged', 'fingerprint', 'random', 'meta'} <= set(content)
    staged = content['staged']
    assert (staged['stage'], staged['started'], staged['iter'], staged['stage_iter']) == (1, True, 9, 3)
    assert [s['block'] for s in staged['schedule']] == [f'backbone.layer{n}.0' for n in (1, 2, 3)] + [None]
    assert all(name.startswith('student.') for name in content['state_dict'])
    assert len(content['random']) == 1 and content['meta']['seed'] == 0


def test_where_the_config_names_no_checkpoint_hook(tmp_path):
    """mmengine's own would write files that cannot be resumed from."""
    cfg = config(recasting(), STAGES)
    del cfg.default_hooks.checkpoint
    run(cfg, tmp_path)
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [
        'stage003_iter00000022.pth', 'stage004_iter00000022.pth', 'student.pth'
    ]  # fmt: skip


def test_hooks_that_cannot_serve(tmp_path):
    for hook, message in (
        (dict(type='EMAHook'), 'EMAHook copies the student before its blocks are replaced'),
        (dict(type='CheckpointHook', interval=1), "a staged run cannot go on from CheckpointHook's files"),
    ):
        with pytest.raises(ValueError, match=message):
            ready_runner(config(recasting(), STAGES, hooks=[hook]), work_dir=str(tmp_path))
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('teacher', [classifier(), classifier(depth=11, block='bottleneck', widths=(2, 3, 4))])
def test_student_of_a_middle_stage(tmp_path, teacher):
    """Exported from within stage 2: block 1 and 2 recast, block 3 the teacher's, rebuilt where it must be."""
    model = recasting(teacher)
    cfg = config(model, STAGES)
    with pytest.raises(Killed):
        run(cfg, tmp_path, dict(kind='epoch', n=3))
    runner = build_runner(prepare(cfg, work_dir=str(tmp_path / 'log')))
    runner.load_checkpoint((tmp_path / 'last_checkpoint').read_text())
    algorithm = runner.bare_model
    save_student(tmp_path / 'middle.pth', algorithm.student, algorithm.origin_so_far())
    student = load_student(tmp_path / 'middle.pth')
    kinds = [type(student.get_submodule(f'backbone.layer{n}.0')).__name__ for n in (1, 2, 3)]
    assert kinds == ['ConvBlock', 'ConvBlock', type(algorithm.teacher.backbone.layer3[0]).__name__]
    content = load_file((tmp_path / 'last_checkpoint').read_text())
    stored = {k.removeprefix('student.'): v for k, v in content['state_dict'].items() if k.startswith('student.')}
    assert differing(student.state_dict(), stored) == []
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(student(images), algorithm.eval().student(images))


def test_checkpoint_of_another_recipe_is_refused(tmp_path):
    with pytest.raises(Killed):
        run(config(recasting(), STAGES), tmp_path, dict(kind='epoch', n=1))
    path = (tmp_path / 'last_checkpoint').read_text()
    for model, message in (
        (recasting(source='backbone.layer2.*'), 'was written with another recipe than the config has'),
        (recasting(classifier(widths=(4, 6, 9))), 'was written with another recipe'),
        (dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=recasting()['data_preprocessor']),
         'was written with another algorithm'),
    ):  # fmt: skip
        runner = build_runner(prepare(config(model, STAGES), work_dir=str(tmp_path / 'log')))
        with pytest.raises(ValueError, match=message):
            runner.load_checkpoint(path)
    save_student(tmp_path / 'student.pth', runner.bare_model.student, runner.bare_model.origin)
    with pytest.raises(ValueError, match='student.pth is '):
        runner.load_checkpoint(str(tmp_path / 'student.pth'))
    Path(path).write_bytes(Path(path).read_bytes()[: os.path.getsize(path) // 2])
    with pytest.raises(ValueError, match='is not a readable checkpoint'):
        runner.load_checkpoint(path)


@pytest.mark.parametrize(
    ('changes', 'part'),
    [
        (dict(staged=3), 'staged'),
        (dict(staged=dict(stage=-1)), 'staged'),
        (dict(staged=dict(stage=99)), 'staged'),
        (dict(staged=dict(schedule=[3])), 'staged'),
        (dict(fingerprint=[1]), 'fingerprint'),
        (dict(fingerprint=dict(teacher=torch.zeros(2))), 'fingerprint'),
        (dict(state_dict={1: torch.ones(1)}), 'state_dict'),
        (dict(state_dict=dict(w='x')), 'state_dict'),
        (dict(structure=[1]), 'structure'),
        (dict(random=3, message_hub=3), 'random, message_hub'),
    ],
)
def test_a_checkpoint_with_something_else_in_a_part_is_damaged(changes, part, sound, tmp_path):
    content = dict(sound)
    for key, value in changes.items():
        content[key] = sound[key] | value if key == 'staged' and isinstance(value, dict) else value
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=f'x.pth is damaged: {part} of it is not what a run writes; give an older one'):
        read_checkpoint(str(tmp_path / 'x.pth'))


@pytest.fixture(scope='module')
def sound(tmp_path_factory, registered, quick) -> dict:
    """What a checkpoint within a run holds."""
    folder = tmp_path_factory.mktemp('sound')
    with pytest.raises(Killed):
        run(config(recasting(), STAGES, checkpoint=dict(iter_interval=1)), folder, dict(kind='iter', n=2))
    return load_file(sorted(folder.glob('*.pth'))[-1])


def test_what_damaged_parts_raise_is_one_line(sound, tmp_path):
    cfg = config(recasting(), STAGES)
    for changes in (dict(random=[dict(torch=3)]), dict(optimizer=3), dict(message_hub=dict(x=3))):
        torch.save(sound | changes, tmp_path / 'x.pth')
        runner = ready_runner(cfg, work_dir=str(tmp_path / 'work'), resume=str(tmp_path / 'x.pth'))
        with pytest.raises(ValueError, match='^the checkpoint is damaged: ') as caught:
            runner.train()
        assert '\n' not in str(caught.value)


def test_a_schedule_of_blocks_that_are_not_there(sound, tmp_path):
    stages = [dict(stage, block='backbone.layer9') for stage in sound['staged']['schedule']]
    torch.save(sound | dict(staged=sound['staged'] | dict(schedule=stages)), tmp_path / 'x.pth')
    runner = ready_runner(config(recasting(), STAGES), work_dir=str(tmp_path / 'work'))
    with pytest.raises(ValueError, match='x.pth is damaged: '):
        runner.load_checkpoint(str(tmp_path / 'x.pth'))


def test_a_note_of_something_else(tmp_path):
    (tmp_path / 'last_checkpoint').write_bytes(b'\xff\0' * 5000)
    with pytest.raises(ValueError, match='nothing to resume: .* names .*, which is not there'):
        latest_checkpoint(str(tmp_path))
