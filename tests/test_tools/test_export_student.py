"""tools/export_student.py on runs that leave one network, two, and none yet; see test_train.py for a middle stage."""

import runpy
import sys
from pathlib import Path

import pytest
from tiny import Killed, classifier, config, differing, preprocessor, run, weights, write

from mmrecast.surgery.student_file import read_student

pytestmark = pytest.mark.usefixtures('quick')

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'export_student.py'
NETWORK = classifier(widths=(4, 8, 16), shortcut='B')
KINDS = dict(AdjoinedNetwork=dict(alpha=2), DifferentiableAdjoinedNetwork=dict(divisors=(1, 4)))


@pytest.fixture
def export(monkeypatch, capsys):
    """Run the tool in this process: (exit status, output, error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['export_student.py', *map(str, arguments)])
        monkeypatch.setenv('LOCAL_RANK', '0')
        status = 0
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return call


def adjoined(kind, folder, stages, crash=None):
    """Train and return the config's file and the last checkpoint."""
    model = dict(type=kind, network=NETWORK, above=4, data_preprocessor=preprocessor(), **KINDS[kind])
    cfg = config(model, stages)
    if crash is None:
        run(cfg, folder)
    else:
        with pytest.raises(Killed):
            run(cfg, folder, crash)
    return write(cfg, folder / 'tiny_config.py'), Path((folder / 'last_checkpoint').read_text())


def test_small_and_full_network_of_a_checkpoint(export, tmp_path):
    cfg, checkpoint = adjoined('AdjoinedNetwork', tmp_path, [dict(kind='train', iters=3)])
    for options, part in (((), ''), (('--network', 'full'), 'full')):
        status, text, error = export(cfg, checkpoint, tmp_path / 'out.pth', *options)
        assert (status, text) == (0, f'{tmp_path}/out.pth: 1 of 1 stages done\n'), error
        assert differing(weights(tmp_path / part), read_student(tmp_path / 'out.pth')[0].state_dict()) == []
    assert read_student(tmp_path / 'out.pth')[1].widths is None


def test_an_unknown_network_is_told(export, tmp_path):
    cfg, checkpoint = adjoined('AdjoinedNetwork', tmp_path, [dict(kind='train', iters=1)])
    status, text, error = export(cfg, checkpoint, tmp_path / 'out.pth', '--network', 'ful')
    assert (status, text, error) == (2, '', "error: the run leaves no network 'ful': there is full\n")
    assert not (tmp_path / 'out.pth').exists()


def test_a_run_of_one_network_has_no_other(export, tmp_path):
    cfg = config(dict(type='SingleTeacherDistill', student=NETWORK, data_preprocessor=preprocessor()),
                 [dict(kind='train', iters=1)])  # fmt: skip
    run(cfg, tmp_path)
    path, checkpoint = write(cfg, tmp_path / 'tiny_config.py'), (tmp_path / 'last_checkpoint').read_text()
    status, _, error = export(path, checkpoint, tmp_path / 'out.pth', '--network', 'full')
    expected = "error: the run leaves no network 'full': leave --network out, the student is all there is\n"
    assert (status, error) == (2, expected)


def test_nothing_is_taken_out_of_a_search_that_goes_on(export, tmp_path):
    stages = [dict(kind='search', epochs=2), dict(kind='train', iters=1)]
    cfg, checkpoint = adjoined('DifferentiableAdjoinedNetwork', tmp_path, stages, dict(kind='epoch', n=1))
    status, text, error = export(cfg, checkpoint, tmp_path / 'out.pth')
    assert (status, text, error.count('\n')) == (2, '', 1) and error.startswith('error: the search has not ended')
    assert not (tmp_path / 'out.pth').exists()
