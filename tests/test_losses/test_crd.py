import math

import pytest
import torch
from features import assert_gradient, feature

from mmrecast.losses import CRDLoss, crd
from mmrecast.registry import MODELS

LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2])  # of eight images
PICKS = {  # negatives of an image
    0: [2, 3, 5, 5],
    3: [0, 1, 6, 7],
    6: [4, 4, 4, 1],
}


def unit(*vectors):
    return [[v / math.hypot(*vector) for v in vector] for vector in vectors]


def embeddings(seed, n=3, dim=5):
    return torch.tensor(unit(*feature(seed, n, dim).tolist()), dtype=torch.float64)


def made(**arguments):
    """A loss with known memories in float64, and those as lists."""
    loss = MODELS.build(dict(type='CRDLoss', neg_num=4, sample_n=8, dim_out=5) | arguments).double()
    memories = [embeddings(seed, 8) for seed in (10, 11)]
    loss.memory_s.copy_(memories[0])
    loss.memory_t.copy_(memories[1])
    return loss, *(memory.tolist() for memory in memories)


def picking(loss):
    loss.draw = lambda sample_idx: torch.tensor([PICKS[i] for i in sample_idx.tolist()])
    return loss


def naive(s, t, index, memory_s, memory_t, constants, temperature=0.07, momentum=0.5, eps=1e-7):
    """The loss of a batch in lists; the memories and the constants change."""

    def dot(a, b):
        return sum(u * v for u, v in zip(a, b, strict=True))

    sides = []
    for features, memory in ((s, memory_t), (t, memory_s)):
        rows = [[i, *PICKS[i]] for i in index]
        pairs = zip(features, rows, strict=True)
        sides.append([[math.exp(dot(e, memory[j]) / temperature) for j in row] for e, row in pairs])
    if not constants:
        constants += [8 * sum(map(sum, side)) / (len(index) * 5) for side in sides]
    total, noise = 0.0, 4 / 8
    for side, constant in zip(sides, constants, strict=True):
        for positive, *negatives in side:
            total -= math.log(positive / constant / (positive / constant + noise + eps))
            total -= sum(math.log(noise / (x / constant + noise + eps)) for x in negatives)
    for features, memory in ((s, memory_s), (t, memory_t)):
        for i, e in zip(index, features, strict=True):
            (memory[i],) = unit([momentum * m + (1 - momentum) * v for m, v in zip(memory[i], e, strict=True)])
    return total / len(index)


@pytest.mark.parametrize('whole_bank', [True, False])
def test_three_steps_against_lists(whole_bank, monkeypatch):
    monkeypatch.setattr(crd, 'WHOLE_BANK', 8 if whole_bank else 0)
    loss, memory_s, memory_t = made(loss_weight=0.8, temperature=0.3, momentum=0.9, eps=1e-3)
    picking(loss)
    constants, index = [], [6, 0, 3]
    for step in range(3):
        s, t = embeddings(step), embeddings(20 + step)
        arguments = dict(temperature=0.3, momentum=0.9, eps=1e-3)
        expected = naive(s.tolist(), t.tolist(), index, memory_s, memory_t, constants, **arguments)
        found = loss(s, t, sample_idx=torch.tensor(index), gt_labels=LABELS[index])
        assert found.shape == ()
        assert found.item() == pytest.approx(0.8 * expected, rel=1e-10)
        assert loss.memory_s.flatten().tolist() == pytest.approx(sum(memory_s, []), rel=1e-10)
        assert loss.memory_t.flatten().tolist() == pytest.approx(sum(memory_t, []), rel=1e-10)
        assert loss.constants.tolist() == pytest.approx(constants, rel=1e-10)


@pytest.mark.parametrize('whole_bank', [True, False])
def test_the_gradient_goes_to_both_embeddings_through_the_memory_as_it_was(whole_bank, monkeypatch):
    monkeypatch.setattr(crd, 'WHOLE_BANK', 8 if whole_bank else 0)
    index = torch.tensor([6, 0, 3])

    def value(s, t):
        loss = picking(made(temperature=0.5)[0])
        loss.constants.copy_(torch.tensor([9.0, 12.0]))  # after the first batch they are no function of it
        return loss(s, t, gt_labels=LABELS[index], sample_idx=index)

    assert_gradient(value, embeddings(0), embeddings(1), to_teacher=True)


def drawn(loss, index, times=1):
    index = torch.tensor(index)
    return torch.cat([loss.draw(index) for _ in range(times)], dim=1)


def test_negatives_are_of_other_classes_evenly():
    loss = CRDLoss(neg_num=6000, sample_n=8, dim_out=5)
    loss.labels.copy_(LABELS)
    torch.manual_seed(0)
    for i, picks in zip([0, 3, 7], drawn(loss, [0, 3, 7]), strict=True):
        counts = picks.bincount(minlength=8)
        others = LABELS != LABELS[i]
        assert counts[~others].tolist() == [0] * (~others).sum()
        expected = 6000 / others.sum().item()
        assert (counts[others] - expected).abs().max() < 5 * math.sqrt(expected)


def test_until_they_were_seen_all_images_count_as_others():
    loss = CRDLoss(neg_num=2000, sample_n=8, dim_out=5)
    torch.manual_seed(0)
    for index, seen in (([0, 5], [0, 5]), ([1], [0, 1, 5])):
        index = torch.tensor(index)
        loss(
            torch.zeros(len(index), 5) + 0.1,
            torch.zeros(len(index), 5) + 0.1,
            gt_labels=LABELS[index],
            sample_idx=index,
        )
        assert loss.labels.tolist() == [LABELS[i] if i in seen else -1 for i in range(8)]
    (picks,) = drawn(loss, [1])
    assert set(picks.tolist()) == {2, 3, 4, 5, 6, 7}  # 0 is known to be of the same class


def test_without_labels_an_image_is_no_negative_of_itself():
    loss = CRDLoss(neg_num=500, sample_n=4, dim_out=2)
    torch.manual_seed(0)
    e, index = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([2, 0])
    loss(e, e, sample_idx=index)
    assert [set(picks.tolist()) for picks in drawn(loss, [2, 0])] == [{0, 1, 3}, {1, 2, 3}]


def test_one_class_alone_still_gives_numbers():
    loss = CRDLoss(neg_num=5, sample_n=3, dim_out=2)
    e = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert loss(e, e, gt_labels=torch.zeros(3, dtype=torch.int64), sample_idx=torch.arange(3)).isfinite()


def test_draws_follow_torchs_seed():
    loss = CRDLoss(neg_num=50, sample_n=8, dim_out=5)
    loss.labels.copy_(LABELS)
    torch.manual_seed(3)
    first = drawn(loss, [0, 4])
    again = drawn(loss, [0, 4])
    torch.manual_seed(3)
    assert torch.equal(drawn(loss, [0, 4]), first)
    assert not torch.equal(again, first)


def steps(loss, count, first):
    values = []
    for step in range(first, first + count):
        index = (torch.arange(3) + step) % 8
        values.append(loss(embeddings(step), embeddings(40 + step), gt_labels=LABELS[index], sample_idx=index).item())
    return values


@pytest.mark.parametrize('sample_n', [None, 8])
@pytest.mark.parametrize('checked_first', [True, False])
def test_a_checkpoint_continues_exactly(sample_n, checked_first):
    torch.manual_seed(0)
    loss = CRDLoss(neg_num=20, sample_n=sample_n, dim_out=5).double()
    loss.check_dataset(8)
    steps(loss, 2, 0)
    saved = {k: v.clone() for k, v in loss.state_dict().items()}
    random = torch.get_rng_state()
    expected = steps(loss, 3, 2)

    torch.manual_seed(1)
    other = CRDLoss(neg_num=20, sample_n=sample_n, dim_out=5).double()
    if checked_first:
        other.check_dataset(8)
    torch.set_rng_state(random)
    other.load_state_dict(saved)
    other.check_dataset(8)
    assert steps(other, 3, 2) == expected
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), loss.state_dict().values(), strict=True))


def test_the_memory_starts_with_rows_of_about_length_1():
    torch.manual_seed(0)
    loss = CRDLoss()
    assert loss.memory_s.shape == (0, 128)
    loss.check_dataset(1000)
    for memory in (loss.memory_s, loss.memory_t):
        assert memory.shape == (1000, 128)
        assert memory.square().sum(1).mean().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(loss.memory_s, loss.memory_t)
    assert loss.labels.tolist() == [-1] * 1000


def test_all_processes_remember_all_images(monkeypatch):
    """Two processes, the other one played by what it would send."""
    loss, memory_s, memory_t = made()
    picking(loss)
    mine, theirs = torch.tensor([6, 0]), torch.tensor([3, 2])
    sent = iter([theirs, LABELS[theirs], embeddings(2, 2), embeddings(3, 2)])
    monkeypatch.setattr(crd, 'all_gather', lambda x: [x, next(sent)])
    loss(embeddings(0, 2), embeddings(1, 2), gt_labels=LABELS[mine], sample_idx=mine)
    assert loss.labels.tolist() == [0, -1, 1, 1, -1, -1, 2, -1]
    for memory, start, seeds in ((loss.memory_s, memory_s, (0, 2)), (loss.memory_t, memory_t, (1, 3))):
        for index, seed in zip((mine, theirs), seeds, strict=True):
            for i, e in zip(index.tolist(), embeddings(seed, 2).tolist(), strict=True):
                (start[i],) = unit([m + v for m, v in zip(start[i], e, strict=True)])
        assert memory.flatten().tolist() == pytest.approx(sum(start, []), rel=1e-10)


def test_the_data_must_fit():
    loss, _, _ = made()
    loss.check_dataset(8)
    loss.check_dataset(5)
    with pytest.raises(ValueError, match='CRDLoss: the memory has room for 8 images, the training data have 9: leave'):
        loss.check_dataset(9)


def test_bad_input():
    loss, _, _ = made()
    e, index = embeddings(0), torch.tensor([6, 0, 3])
    with pytest.raises(TypeError, match='sample_idx'):
        loss(e, e, gt_labels=LABELS[:3])
    with pytest.raises(
        ValueError, match=r'embeddings \(3, 5\) expected, the student has \(3, 4\), the teacher \(3, 5\)'
    ):
        loss(e[:, :4], e, gt_labels=LABELS[:3], sample_idx=index)
    with pytest.raises(
        ValueError, match=r'embeddings \(3, 5\) expected, the student has \(2, 5\), the teacher \(2, 5\)'
    ):
        loss(e[:2], e[:2], gt_labels=LABELS[:3], sample_idx=index)
    with pytest.raises(
        ValueError, match='how many images there are is not known: give sample_n, or call check_dataset'
    ):
        CRDLoss(dim_out=5)(e, e, gt_labels=LABELS[:3], sample_idx=index)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (dict(temperature=0), 'temperature must be a positive number, got 0'),
        (dict(eps=-1), 'eps must be a positive number, got -1'),
        (dict(neg_num=0), 'neg_num must be a whole number of at least 1, got 0'),
        (dict(sample_n=0), 'sample_n must be a whole number of at least 1, got 0'),
        (dict(dim_out=2.5), 'dim_out must be a whole number of at least 1, got 2.5'),
        (dict(momentum=1.0), r'momentum must lie in \[0, 1\), got 1.0'),
    ],
)
def test_arguments_out_of_range(arguments, said):
    with pytest.raises(ValueError, match=f'CRDLoss: {said}'):
        CRDLoss(**arguments)
