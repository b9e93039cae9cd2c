"""What a disk that fails stops and what it does not; tests/torture/disk.py has disks that fail."""

import logging

import pytest
from mmengine.logging import MMLogger
from mmengine.visualization import Visualizer
from tiny import config, recasting, run

from mmrecast.engine import StagedCheckpointHook, hooks
from mmrecast.engine.disk import guarded, last_one, told_once
from mmrecast.utils.disk import DiskError

pytestmark = pytest.mark.usefixtures('quick')

STAGES = [dict(kind='recast', blocks='all', epochs=1), dict(kind='finetune', epochs=1)]


def refuse(obj, path):
    raise DiskError(f'{path} cannot be written: no room')


@pytest.mark.parametrize('on_failure', ['stop', 'warn'])
def test_a_result_that_cannot_be_written(tmp_path, monkeypatch, on_failure):
    """In between it is told or the end; the last one is the end always, for nobody would write it again."""
    monkeypatch.setattr(hooks, 'write_json', refuse)
    with pytest.raises(DiskError, match='result.json cannot be written'):
        run(config(recasting(), STAGES, checkpoint=dict(on_failure=on_failure)), tmp_path)
    assert (tmp_path / 'student.pth').is_file() == (on_failure == 'warn')


def test_a_wrong_option():
    with pytest.raises(ValueError, match="on_failure of the checkpoint hook must be 'stop' or 'warn', got 'ignore'"):
        StagedCheckpointHook(on_failure='ignore')


def test_the_last_checkpoint_in_a_message(tmp_path):
    assert last_one(str(tmp_path)) == ''
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/stage001_iter00000004.pth')
    assert last_one(str(tmp_path)) == '; stage001_iter00000004.pth is whole: go on from it with --resume'


class Full:
    """A backend of curves on a full disk."""

    def add_scalar(self, name, value):
        raise OSError(28, 'No space left on device')

    def add_graph(self, model):
        raise ValueError('no graph')

    @property
    def experiment(self):
        return 'here'


def test_curves_are_told_once_and_other_mistakes_are_not_hidden():
    said = []
    logger = type('Logger', (), dict(warning=lambda self, line: said.append(line)))()
    visualizer = Visualizer.get_instance('full', vis_backends=None)
    visualizer._vis_backends = dict(curves=Full())
    backend = guarded(guarded(visualizer, logger), logger).get_backend('curves')
    for _ in range(3):
        backend.add_scalar('loss', 1.0)
    assert said == ['curves cannot write (No space left on device): its curves will lack what is logged now']
    assert backend.experiment == 'here'
    with pytest.raises(ValueError, match='no graph'):
        backend.add_graph(None)


def test_log_lines_are_told_once(tmp_path, capsys):
    logger = MMLogger.get_instance('full_log', log_file=str(tmp_path / 'run.log'), log_level='INFO')
    (file,) = [handler for handler in told_once(logger).handlers if isinstance(handler, logging.FileHandler)]
    file.stream.close()  # what is written to it now fails
    for _ in range(3):
        logger.info('a line')
    said = ''.join(capsys.readouterr())
    assert said.count('a line') == 3 and said.count('cannot be written: lines will lack there') == 1
    assert 'Traceback' not in said
