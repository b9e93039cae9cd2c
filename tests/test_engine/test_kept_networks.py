"""What a run leaves whose algorithm has more than one network to keep: both as students with results of their own."""

import json

import pytest
import torch
from tiny import NO_TEST, SHAPE, Killed, classifier, config, differing, preprocessor, run, weights

from mmrecast import apis
from mmrecast.apis import load_student, ready_runner
from mmrecast.datasets import Digits
from mmrecast.engine.hooks import summary
from mmrecast.surgery.student_file import read_student

pytestmark = pytest.mark.usefixtures('quick')

NETWORK = classifier(widths=(4, 8, 16), shortcut='B')
ADJOINED = dict(type='AdjoinedNetwork', network=NETWORK, alpha=2, above=4, data_preprocessor=preprocessor())
SEARCHED = dict(type='DifferentiableAdjoinedNetwork', network=NETWORK, divisors=(1, 2, 4), above=4,
                data_preprocessor=preprocessor())  # fmt: skip
TOP5 = dict(type='mmpretrain.Accuracy', topk=(1, 5))


@pytest.fixture(scope='module')
def done(tmp_path_factory, quick):
    """Config, runner, and work dir of an adjoined run that is over."""
    work_dir = tmp_path_factory.mktemp('adjoined')
    cfg = config(ADJOINED, [dict(kind='train', epochs=12)], test_evaluator=TOP5)
    runner = ready_runner(cfg, work_dir=str(work_dir))
    runner.train()
    return cfg, runner, work_dir


def results(work_dir):
    """Return the student's result and the full network's."""
    return [json.loads((work_dir / part / 'result.json').read_text()) for part in ('', 'full')]


def accuracies(network):
    """Return top-1 and top-5 (%) of a network on the 60 images, by plain PyTorch."""
    digits = Digits('test', num_samples=60)
    with torch.no_grad():
        best = network.eval()((digits.images - 77.9) / 95.9).topk(5).indices == digits.labels[:, None]
    return [100 * best[:, :k].any(1).sum().item() / 60 for k in (1, 5)]


def test_both_are_judged(done):
    _, _, work_dir = done
    small, full = results(work_dir)
    for result, file in ((small, work_dir / 'student.pth'), (full, work_dir / 'full' / 'student.pth')):
        top1, top5 = accuracies(load_student(file))
        assert result['top1'] == pytest.approx(top1, abs=1e-3) and result['top5'] == pytest.approx(top5, abs=1e-3)
        assert result['val_images'] == 60 and torch.load(file)['meta']['top1'] == result['top1']
    assert small['top1'] != full['top1'] and full['top1'] > 50  # so that one cannot pass for the other
    assert small['also'] == dict(full=full['top1']) and 'also' not in full


def test_both_have_their_own_form_and_the_runs_cost(done):
    _, runner, work_dir = done
    small, full = results(work_dir)
    assert (small['method'], full['method']) == ('AdjoinedNetwork', 'AdjoinedNetwork (full)')
    assert (small.get('network'), full['network']) == (None, 'full')
    widths = runner.bare_model.origin.widths.to_dict()
    assert (small['plan'], small['widths'], full['plan'], full['widths']) == (None, widths, None, None)
    same = ('name', 'config', 'seed', 'stages', 'images', 'seconds', 'input_shape', 'machine', 'complete', 'teacher')
    assert [key for key in same if small[key] != full[key]] == []
    assert small['complete'] and small['images'] == 12 * 96 and set(full) - set(small) == {'network'}


def test_the_files_hold_what_was_trained(done):
    """Shared weights: the small network's are the first filters of the full one's, on the channels it keeps."""
    _, runner, work_dir = done
    full, origin = read_student(work_dir / 'full' / 'student.pth')
    assert differing(full.state_dict(), runner.bare_model.student.full.state_dict()) == []
    assert (origin.plan, origin.widths) == (None, None)
    small = load_student(work_dir / 'student.pth')
    assert type(small) is type(full) and small.backbone.layer3[0].conv2.weight.shape == (8, 8, 3, 3)
    assert torch.equal(small.backbone.layer3[0].conv2.weight, full.backbone.layer3[0].conv2.weight[:8, :8])
    assert torch.equal(small.head.fc.weight, full.head.fc.weight[:, :8])
    assert not torch.equal(small.backbone.bn1.weight, full.backbone.bn1.weight)  # every path has its own
    images = torch.randn(3, *SHAPE)
    runner.bare_model.eval()
    assert torch.allclose(small(images), runner.bare_model.student(images), atol=1e-5)


def test_the_line_at_the_end_names_both(done):
    _, _, work_dir = done
    small, full = results(work_dir)
    line = summary(str(work_dir))
    assert line.startswith(f'top-1 {small["top1"]:.2f} % on 60 images (full {full["top1"]:.2f} %) after 1152 images')
    assert line.endswith(f'; {work_dir}/student.pth, {work_dir}/full/student.pth')


def test_both_files_can_be_tested(done, tmp_path):
    cfg, _, work_dir = done
    for file, result in zip(
        (work_dir / 'student.pth', work_dir / 'full' / 'student.pth'), results(work_dir), strict=True
    ):
        metrics = apis.test(cfg, str(file), work_dir=str(tmp_path))
        assert metrics['accuracy/top1'] == result['top1']


def test_without_test_data_the_others_are_not_measured(tmp_path):
    """What the stages measured is the student's."""
    run(config(ADJOINED, [dict(kind='train', iters=2)], **NO_TEST), tmp_path)
    small, full = results(tmp_path)
    assert small['top1'] == small['stages'][-1]['top1'] is not None and small['val_images'] == 60
    assert (full['top1'], full['val_images'], small['also']) == (None, None, dict(full=None))
    assert '(' not in summary(str(tmp_path))


def test_one_network_is_as_it_was(tmp_path):
    model = dict(type='SingleTeacherDistill', student=NETWORK, data_preprocessor=preprocessor())
    result = run(config(model, [dict(kind='train', iters=1)]), tmp_path)
    assert 'also' not in result and 'network' not in result and (result['plan'], result['widths']) == (None, None)
    assert [path.parent.name for path in tmp_path.glob('**/student.pth')] == [tmp_path.name]


def test_a_narrowed_student_of_another_distiller(tmp_path):
    student = dict(type='NarrowStudent', source=NETWORK, alpha=2, above=4, input_shape=SHAPE)
    model = dict(type='SingleTeacherDistill', student=student, data_preprocessor=preprocessor())
    result = run(config(model, [dict(kind='train', iters=1)]), tmp_path)
    loaded, origin = read_student(tmp_path / 'student.pth')
    assert result['widths'] == origin.widths.to_dict() and loaded.head.fc.in_features == 8
    with pytest.raises(ValueError, match='cannot be resumed: it was written with another widths;'):
        model['student'] = student | dict(alpha=4)
        run(config(model, [dict(kind='train', iters=1)]), tmp_path, resume=True)


def test_a_search_has_no_widths_before_it_has_ended(tmp_path):
    stages = [dict(kind='search', iters=2), dict(kind='train', iters=2)]
    with pytest.raises(Killed):
        run(config(SEARCHED, stages), tmp_path, dict(kind='stage', n=1))
    partial = json.loads((tmp_path / 'result.json').read_text())
    assert (partial['complete'], partial['widths'], len(partial['stages'])) == (False, None, 1)
    assert not list(tmp_path.glob('**/student.pth'))
    result = run(config(SEARCHED, stages), tmp_path, resume=True)
    _, origin = read_student(tmp_path / 'student.pth')
    assert result['widths'] == json.loads(json.dumps(origin.widths.to_dict()))
    assert results(tmp_path)[1]['method'] == 'DifferentiableAdjoinedNetwork (full)'
    assert weights(tmp_path / 'full')['backbone.layer3.0.conv2.weight'].shape == (16, 16, 3, 3)
