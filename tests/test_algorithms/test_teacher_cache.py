"""What is kept of the teacher, and what is computed."""

import pytest
import torch
from tiny import Killed, classifier, config, differing, preprocessor, recasting, run, weights

from mmrecast.algorithms.teacher_cache import TeacherCache

STAGES = [dict(kind='recast', blocks='backbone.layer1.0', epochs=3), dict(kind='finetune', epochs=4)]


class Teacher:
    """Gives image number · 10 + how often it was asked before, as two outputs, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = numbers.float()[:, None] * 10 + self.asked
        self.asked += 1
        return outputs, -outputs


def cache_of(mib: int = 1, images: int = 100) -> TeacherCache:
    cache = TeacherCache(mib)
    cache.num_images = images
    return cache


def ask(cache: TeacherCache, teacher: Teacher, numbers: list[int], view: int | None = 0) -> list[float]:
    numbers = torch.tensor(numbers)
    one, other = cache(dict(view=view, sample_idx=numbers), lambda: teacher(numbers))
    assert torch.equal(one, -other)
    return one[:, 0].tolist()


def test_known_images_are_looked_up_and_a_batch_with_an_unknown_one_is_computed_whole():
    cache, teacher = cache_of(), Teacher()
    assert ask(cache, teacher, [1, 2, 3]) == [10, 20, 30]
    assert ask(cache, teacher, [3, 1, 2]) == [30, 10, 20]
    assert ask(cache, teacher, [1, 2, 4]) == [11, 21, 41]
    assert ask(cache, teacher, [4, 2, 1]) == [41, 21, 11]
    assert (cache.looked_up, cache.computed, teacher.asked) == (6, 6, 2)


def test_views_are_kept_apart_and_what_does_not_come_again_is_not_kept():
    cache, teacher = cache_of(), Teacher()
    assert ask(cache, teacher, [5, 6], view=0) == [50, 60]
    assert ask(cache, teacher, [5, 6], view=1) == [51, 61]
    assert ask(cache, teacher, [6, 5], view=0) == [60, 50]
    assert ask(cache, teacher, [5, 6], view=None) == [52, 62]
    assert ask(cache, teacher, [5, 6], view=None) == [53, 63]


def test_batches_of_another_size_neither_give_nor_take():
    """What is looked up must not depend on which batch came first: a resumed run begins with nothing."""
    cache, teacher = cache_of(), Teacher()
    ask(cache, teacher, [1, 2, 3])
    assert ask(cache, teacher, [1, 2]) == [11, 21]
    assert ask(cache, teacher, [1, 2, 3]) == [10, 20, 30]


def test_the_bound_holds_and_is_told(caplog):
    """A view of 100 images takes 100 · 2 · 4 bytes, and 1 MiB holds 1,310 of them."""
    cache, teacher = cache_of(), Teacher()
    for view in range(1312):
        ask(cache, teacher, [7, 8], view=view)
    assert len(cache._kept) == 2**20 // 800 == 1310
    before = teacher.asked
    ask(cache, teacher, [7, 8], view=1309)
    assert teacher.asked == before
    ask(cache, teacher, [7, 8], view=1310)
    assert teacher.asked == before + 1
    cache.clear()
    ask(cache, teacher, [7, 8], view=1310)
    ask(cache, teacher, [7, 8], view=1310)
    assert teacher.asked == before + 2


def test_layout_in_memory_is_kept():
    cache = cache_of()
    image = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    samples = dict(view=0, sample_idx=torch.tensor([0, 1]))
    cache(samples, lambda: (image,))
    (again,) = cache(samples, lambda: (torch.zeros(0),))
    assert torch.equal(again, image) and again.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('mib', [-1, 1.5, True, 'all'])
def test_a_bound_that_is_none(mib):
    with pytest.raises(ValueError, match='teacher_cache is a number of MiB, 0 for none, got'):
        TeacherCache(mib)


def config_of(cached: int, **options):
    model = recasting(classifier(depth=14), 'backbone.layer1.0', start='closed_form', teacher_cache=cached, **options)
    model['data_preprocessor'] = preprocessor(crop_padding=1, views=2)
    return config(model, STAGES)


@pytest.mark.parametrize('block_input', ['student', 'teacher'])
def test_a_run_gives_the_same_weights_with_it(tmp_path, quick, block_input):
    plain = run(config_of(0, block_input=block_input), tmp_path / 'plain')
    kept = run(config_of(8, block_input=block_input), tmp_path / 'kept')
    assert differing(weights(tmp_path / 'plain'), weights(tmp_path / 'kept')) == []
    assert [s['relative_error'] for s in plain['stages']] == [s['relative_error'] for s in kept['stages']]


def test_a_resumed_run_gives_the_same_weights(tmp_path, quick):
    """It has kept nothing, so that it computes what the other one looks up."""
    cfg = config_of(8)
    run(cfg, tmp_path / 'whole')
    with pytest.raises(Killed):
        run(cfg, tmp_path / 'cut', crash=dict(kind='epoch', n=6))
    run(cfg, tmp_path / 'cut', resume=True)
    assert differing(weights(tmp_path / 'whole'), weights(tmp_path / 'cut')) == []
