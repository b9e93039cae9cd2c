"""The counts of a campaign, whole and ended in the middle."""

import json
import sys

import pytest
from torture import run
from torture.attack import Attack, Family


def survives(folder):
    assert list(folder.iterdir()) == []


def breaks(folder):
    raise AssertionError('broken')


def ends(folder):
    raise KeyboardInterrupt


@pytest.fixture
def campaign(monkeypatch, tmp_path):
    """Run a campaign of these attacks; return its status and the file of counts."""

    def make(*attacks, options=()):
        family = Family('own', 'nothing breaks', [Attack(one.__name__, one) for one in attacks])
        monkeypatch.setattr(run, 'FAMILIES', [family])
        monkeypatch.setattr(run, 'prepare', lambda: None)
        monkeypatch.setattr(sys, 'argv', ['run.py', '--out', str(tmp_path / 'counts.json'), *options])
        with pytest.raises((SystemExit, KeyboardInterrupt)) as ended:
            run.main()
        return ended.value, tmp_path / 'counts.json'

    return make


def test_what_is_lost_is_counted_and_said(campaign):
    ended, file = campaign(survives, breaks, survives)
    counts = json.loads(file.read_text())['own']
    assert ended.code and (counts['attacks'], counts['attempts'], counts['survived']) == (3, 3, 2)
    assert counts['kinds']['survives'] == dict(attempts=2, survived=2) and 'broken' in counts['lost'][0]['said']
    assert {'command', 'machine', 'versions', 'promise'} <= set(counts)
    ended, file = campaign(survives)
    assert not ended.code


def test_a_campaign_that_is_ended_leaves_what_it_counted(campaign):
    ended, file = campaign(survives, ends, survives)
    counts = json.loads(file.read_text())['own']
    assert isinstance(ended, KeyboardInterrupt) and (counts['attacks'], counts['attempts']) == (3, 1)


def test_part_of_a_family_is_no_count_of_it(campaign):
    _, file = campaign(survives, breaks, options=['--kind', 'surv'])
    assert not file.exists()


def test_refused(campaign, capsys):
    ended, _ = campaign(survives, options=['--jobs', '0'])
    assert ended.code == 2 and '--jobs must be at least 1' in capsys.readouterr().err
