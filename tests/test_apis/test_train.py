"""Training and testing by a config from Python."""

import copy

import pytest
from mmengine import MessageHub
from mmengine.config import Config
from tiny import Killed, classifier, config, recasting, run

from mmrecast.apis import ready_runner, test, train
from mmrecast.apis.train import prepare

pytestmark = pytest.mark.usefixtures('quick')

STAGES = [dict(kind='recast', iters=3), dict(kind='finetune', iters=3)]
test.__test__ = False  # pytest would take it for one


@pytest.fixture(scope='module')
def done(tmp_path_factory, trained_teacher, quick):
    folder = tmp_path_factory.mktemp('done')
    checkpoint = dict(interval=None, max_keep_ckpts=9)
    cfg = config(recasting(teacher_ckpt=trained_teacher), STAGES, checkpoint=checkpoint)
    return cfg, run(cfg, folder), folder


def test_checkpoint_and_student_have_the_recorded_accuracy(done, tmp_path):
    """Also a checkpoint of a middle stage, whose student is half recast."""
    cfg, result, folder = done
    assert [path.name[:8] for path in sorted(folder.glob('stage*.pth'))] == [f'stage00{n}' for n in (1, 2, 3, 4)]
    for path, top1 in (
        (folder / 'student.pth', result['top1']),
        ((folder / 'last_checkpoint').read_text(), result['top1']),
        (folder / 'stage002_iter00000006.pth', result['stages'][1]['top1']),
    ):
        assert test(cfg, str(path), work_dir=str(tmp_path))['accuracy/top1'] == top1


def test_test_needs_data_and_a_file(done, tmp_path):
    cfg, _, folder = done
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*student.pht .nearest: .*student.pth'):
        test(cfg, str(folder / 'student.pht'), work_dir=str(tmp_path))
    without = Config({key: value for key, value in cfg.items() if not key.startswith('test_')})
    with pytest.raises(ValueError, match='has no test_dataloader'):
        test(without, str(folder / 'student.pth'), work_dir=str(tmp_path))


def test_config_is_not_changed(done, tmp_path):
    cfg = done[0]
    before = copy.deepcopy(cfg.to_dict())
    train(cfg, work_dir=str(tmp_path))
    assert cfg.to_dict() == before


def test_runs_of_one_second_share_nothing(done, tmp_path):
    """mmengine's message hub belongs to an experiment's name."""
    one, two = (ready_runner(done[0], work_dir=str(tmp_path / name)) for name in 'ab')
    assert one.experiment_name != two.experiment_name
    assert one.message_hub is not two.message_hub
    assert MessageHub.get_instance(one.experiment_name) is one.message_hub


def test_prepare(done, tmp_path, monkeypatch):
    cfg = copy.deepcopy(done[0])
    monkeypatch.chdir(tmp_path)
    assert prepare(cfg).work_dir.startswith('work_dirs')
    cfg.work_dir = 'mine'
    assert prepare(cfg).work_dir == 'mine' and prepare(cfg, work_dir='other').work_dir == 'other'
    with pytest.raises(ValueError, match='nothing to resume in mine'):
        prepare(cfg, resume=True)
    cfg.train_dataloader = None
    with pytest.raises((ValueError, KeyError), match='train_dataloader'):
        prepare(cfg)
    assert list(tmp_path.iterdir()) == []


def test_wrong_number_of_classes(done, tmp_path):
    cfg = config(recasting(classifier(classes=12)), STAGES)
    with pytest.raises(ValueError, match='the teacher has 12 classes but the data set has 10'):
        train(cfg, work_dir=str(tmp_path))


def test_interrupted_run_says_where_it_goes_on(done, tmp_path):
    with pytest.raises(Killed):
        run(done[0], tmp_path, dict(kind='stage', n=2))
    cfg = copy.deepcopy(done[0])
    cfg.log_level = 'INFO'
    runner = ready_runner(cfg, work_dir=str(tmp_path), resume=True)
    assert runner.train_loop.position == 'stage 3/4 recast backbone.layer3.0, iteration 0/3'
    assert 'resumed from' in next(tmp_path.glob(f'{runner.timestamp}/*.log')).read_text()
