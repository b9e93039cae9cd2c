"""What candidates take is measured once, and again where something else was measured or the file is damaged."""

import json

import pytest
from tiny import SHAPE

from mmrecast.planning import latencies
from mmrecast.planning.candidates import candidates_of
from mmrecast.planning.costs import Line
from mmrecast.planning.latencies import latencies_of

MEASURING = dict(batch_size=1, repeats=1, warmup=0, settings=None)


@pytest.fixture
def counted(monkeypatch):
    """Count how often candidates are measured; a line through so few rounds may fall."""
    monkeypatch.setattr(latencies, 'line_through', lambda *args, **how: Line(1.0, 0.1))
    calls, measure = [], latencies.costs_of
    monkeypatch.setattr(latencies, 'costs_of', lambda *args, **how: calls.append(how) or measure(*args, **how))
    return calls


def test_what_was_measured_is_read(teacher, chain, candidates, tmp_path, counted):
    told = []
    first = latencies_of(teacher, chain, candidates, tmp_path, told=told.append, **MEASURING)
    again = latencies_of(teacher, chain, candidates, tmp_path, told=told.append, **MEASURING)
    assert again == first and len(counted) == 1
    assert told[0].startswith('whole network = ') and told[1].startswith(f'latencies as measured at {first.when} (')
    assert [len(own) for own in first.costs] == [len(own) for own in candidates]
    assert all(one['ms'] > 0 for own in first.costs for one in own) and first.teacher_ms > 0
    latencies_of(teacher, chain, candidates, None, **MEASURING)
    latencies_of(teacher, chain, candidates, tmp_path, again=True, **MEASURING)
    assert len(counted) == 3 and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('other', [dict(batch_size=2), dict(repeats=2), 'candidates', 'machine'])
def test_another_measurement_is_another_file(teacher, chain, candidates, tmp_path, counted, monkeypatch, other):
    latencies_of(teacher, chain, candidates, tmp_path, **MEASURING)
    if other == 'machine':
        monkeypatch.setattr(latencies, 'machine', lambda: dict(cpu='another'))
    elif other == 'candidates':
        candidates = candidates_of(teacher, SHAPE, ratios=(1,))
    changed = MEASURING | (other if isinstance(other, dict) else {})
    latencies_of(teacher, chain, candidates, tmp_path, **changed)
    assert len(counted) == 2 and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    'spoil',
    [
        lambda c: 'no json',
        lambda c: json.dumps([1]),
        lambda c: '[' * 100_000,
        lambda c: json.dumps(c | dict(costs=c['costs'][1:])),
        lambda c: json.dumps(c | dict(teacher_ms=-1.0)),
        lambda c: json.dumps(c | dict(line=dict(slope=0.0, intercept=1.0))),
        lambda c: json.dumps(c | dict(line=dict(slope=1.0, intercept=float('nan')))),
        lambda c: json.dumps(c | dict(line=3)),
        lambda c: json.dumps({k: v for k, v in c.items() if k != 'when'}),
    ],
)
def test_a_damaged_file_is_measured_anew(teacher, chain, candidates, tmp_path, counted, spoil):
    latencies_of(teacher, chain, candidates, tmp_path, **MEASURING)
    (file,) = tmp_path.iterdir()
    file.write_text(spoil(json.loads(file.read_text())))
    latencies_of(teacher, chain, candidates, tmp_path, **MEASURING)
    latencies_of(teacher, chain, candidates, tmp_path, **MEASURING)
    assert len(counted) == 2


def test_a_line_that_falls_is_measured_again_for_longer(teacher, chain, candidates, monkeypatch):
    """On a machine that does something else meanwhile; in the end it is said."""
    rounds, falls = [], ValueError('the measured networks do not take longer where their blocks do')

    def through(*args, repeats, **how):
        rounds.append(repeats)
        if len(rounds) % 3:
            raise falls
        return Line(2.0, 0.5)

    monkeypatch.setattr(latencies, 'line_through', through)
    assert latencies_of(teacher, chain, candidates, **MEASURING).line == Line(2.0, 0.5) and rounds == [1, 4, 16]
    monkeypatch.setattr(latencies, 'TRIES', 2)
    with pytest.raises(ValueError, match='do not take longer where their blocks do'):
        latencies_of(teacher, chain, candidates, **MEASURING)
