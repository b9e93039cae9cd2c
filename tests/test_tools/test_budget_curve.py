"""The gap against the images seen, on small networks."""

import json
from pathlib import Path

import pytest
from tiny import config, loader, preprocessor, recasting, write

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmarks' / 'budget_curve.py'
AUTHORS = [dict(kind='recast', blocks='all', epochs=60), dict(kind='finetune', epochs=100)]
FAST = [dict(kind='recast', blocks='all', iters=60), dict(kind='finetune', epochs=29)]


@pytest.fixture
def run(call, tool, tmp_path, monkeypatch, quick, trained_teacher):
    """Run the tool on two small configs of the same schedule, whose epochs have 96 images."""
    for start, file in (('xavier', 'plain.py'), ('closed_form', 'quick.py')):
        model = recasting(start=dict(type=start, images=32)) | dict(data_preprocessor=preprocessor(crop_padding=1))
        batch = loader('train', 96, 32 if start == 'closed_form' else 16)
        stages = FAST if start == 'closed_form' else AUTHORS
        write(config(model, stages, train_dataloader=batch), tmp_path / file)
    monkeypatch.setattr(tool, 'FOLDER', tmp_path)
    monkeypatch.setattr(tool, 'CONFIGS', dict(xavier='plain.py', closed_form='quick.py'))
    for name, value in dict(AUTHORS_EPOCHS=280, BLOCKS=3, START_IMAGES=32, PER_BLOCK=56).items():
        monkeypatch.setattr(tool, name, value)
    given = ['--teacher', trained_teacher, '--images', '96', '--work-dir', tmp_path / 'runs', '--data-root', tmp_path]
    monkeypatch.setattr(
        tool, 'train', lambda cfg, data_root, **kw: pytest.importorskip('mmrecast.apis').train(cfg, **kw)
    )
    return lambda *args: call(*given, *args)


def test_both_starts_see_as_many_images_and_what_is_done_is_kept(run, tmp_path):
    out, figure = tmp_path / 'curve.json', tmp_path / 'curve.svg'
    command = ['--parts', '28', '14', '--seeds', '0', '1', '--out', out, '--plot', figure]
    status, said, _ = run(*command)
    assert status == 0
    content = json.loads(out.read_text())
    runs = content['runs']
    assert [(r['start'], r['part'], r['seed']) for r in runs] == [
        (start, part, seed) for part in (28, 14) for seed in (0, 1) for start in ('xavier', 'closed_form')
    ]
    for r in runs:
        assert r['images'] == 280 // r['part'] * 96
        assert r['gap'] == pytest.approx(r['teacher_top1'] - r['top1'], abs=1e-3)
        assert len(r['stages']) == 4
        if r['start'] == 'closed_form':  # 30 or 60 batches of 32, less what the starts read
            per_block, batches = 56 // r['part'], 280 // r['part'] * 3
            assert [s[0] for s in r['stages']] == [per_block] * 3 + [batches - 3 * (per_block + 1)]
    assert [line.split()[1:3] for line in said.splitlines() if '1/' in line]
    assert figure.read_text().count('closed_form') >= 1
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'runs').glob('*/student.pth')}
    assert len(before) == 8
    status, again, err = run(*command)
    assert (status, again, err) == (0, said, '')
    assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--parts', '0'], '--parts and --images must be at least 1, got 0'),
        (['--parts', '20000'], 'a budget of 0 iterations|must be a whole number of iterations'),
    ],
)
def test_refused(run, args, message):
    import re

    status, _, err = run(*args)
    assert status == 2 and re.search(message, err) and len(err.splitlines()) <= 2
