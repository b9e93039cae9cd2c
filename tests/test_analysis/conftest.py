import json

import finished
import pytest

from mmrecast.analysis.complexity import Complexity
from mmrecast.analysis.latency import Latency
from mmrecast.analysis.rows import Measures


@pytest.fixture
def make_result():
    """Return a function that makes the result of a run, 88 % top-1 by default, under a teacher of 90 %."""
    return finished.result


@pytest.fixture
def save_result(tmp_path):
    """Return a function that writes a result into a work directory of its own and returns that directory."""

    def save(name, **fields):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / 'result.json').write_text(json.dumps(finished.result(**fields)), encoding='utf-8')
        return folder

    return save


@pytest.fixture
def leave(tmp_path):
    """Return a function that fills a work directory with a result and a student, see ``finished.leave``."""
    return lambda name, recipe=finished.CONV, **fields: finished.leave(tmp_path / name, recipe, **fields)


@pytest.fixture
def measures():
    """Measures of a teacher and of a student half its size (one that the results do not tell from others: '')."""
    return dict(
        teacher=Measures(
            Complexity(800_000, 120_000_000, 500_000, (), 'cifar'),
            {2: Latency(10.0, 9.0, 11.0, 1.0, batch_size=2, repeats=7)},
        ),
        **{
            '': Measures(
                Complexity(400_000, 60_000_000, 250_000, (), 'cifar'),
                {2: Latency(5.0, 4.0, 6.0, 1.9, batch_size=2, repeats=7)},
            )
        },
    )
