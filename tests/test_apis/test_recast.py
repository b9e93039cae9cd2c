"""One call from plain PyTorch: any network, plain loaders."""

import json

import pytest
import torch
from tiny import SHAPE, PlainNet, differing, tensors
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from mmrecast.apis import RecastResult, load_student, recast
from mmrecast.datasets import Digits

pytestmark = pytest.mark.usefixtures('quick')

RECIPE = [dict(source=['block1', 'block3'], target='ConvBlock')]
STAGES = [dict(kind='recast', iters=6), dict(kind='finetune', iters=6)]


def plain_loader(split: str, images: int, batch: int = 32, **kwargs) -> DataLoader:
    digits = Digits(split, num_samples=images)
    return DataLoader(TensorDataset((digits.images - 77.9) / 95.9, digits.labels), batch, split == 'train', **kwargs)


@pytest.fixture
def teacher() -> nn.Module:
    """A network with a frozen stem, one module in eval mode and a gradient: none of that may change."""
    torch.manual_seed(0)
    network = PlainNet().train()
    network.stem.requires_grad_(False)
    network.block2.eval()
    network.fc.bias.grad = torch.ones(10)
    return network


def test_teacher_is_handed_back_as_it_was(teacher):
    before, modes = tensors(teacher), {n: m.training for n, m in teacher.named_modules()}
    trains = {n: p.requires_grad for n, p in teacher.named_parameters()}
    result = recast(teacher, RECIPE, plain_loader('train', 96), stages=STAGES, verbose=False)
    assert differing(before, tensors(teacher)) == []
    assert {n: m.training for n, m in teacher.named_modules()} == modes
    assert {n: p.requires_grad for n, p in teacher.named_parameters()} == trains
    assert torch.equal(teacher.fc.bias.grad, torch.ones(10)) and teacher.fc.weight.grad is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in teacher.modules())
    own = {id(t) for t in [*teacher.parameters(), *teacher.buffers()]}
    assert not own & {id(t) for t in [*result.student.parameters(), *result.student.buffers()]}


def test_result(teacher, tmp_path):
    """A plain network in eval mode, its records and accuracies; it is saved and loaded onto an untrained network."""
    val = plain_loader('test', 60)
    result = recast(teacher, RECIPE, plain_loader('train', 96), val, STAGES, str(tmp_path), verbose=False)
    assert isinstance(result, RecastResult) and not any(m.training for m in result.student.modules())
    assert [type(b).__name__ for b in (result.student.block1, result.student.block2, result.student.block3)] == [
        'ConvBlock', 'PlainBlock', 'ConvBlock'
    ]  # fmt: skip
    assert [s['name'] for s in result.stages] == ['recast block1', 'recast block3', 'finetune']
    images, labels = val.dataset.tensors
    for network, top1 in ((result.student, result.top1), (teacher.eval(), result.teacher_top1)):
        with torch.no_grad():
            assert top1 == pytest.approx(100 * (network(images).argmax(1) == labels).float().mean().item(), abs=1e-3)
    result.save(tmp_path / 'mine.pth')
    with pytest.raises(ValueError, match='holds no constructor .*pass the untrained model='):
        load_student(tmp_path / 'mine.pth')
    for name in ('mine.pth', 'student.pth'):
        loaded = load_student(tmp_path / name, model=PlainNet())
        assert torch.equal(loaded(images), result.student(images))
    assert json.loads((tmp_path / 'result.json').read_text())['top1'] == result.top1
    with pytest.raises(ValueError, match='mine.pth do not fit'):
        load_student(tmp_path / 'mine.pth', model=PlainNet(width=7))


def test_without_validation_and_work_dir(teacher, tmp_path, monkeypatch):
    """Nothing is written where nothing was asked for; by default an epoch per block and ten of fine-tuning."""
    monkeypatch.chdir(tmp_path)
    result = recast(teacher, RECIPE, plain_loader('train', 32), verbose=False)
    assert (result.top1, result.teacher_top1) == (None, None)
    assert [s['images'] for s in result.stages] == [32, 32, 320]
    assert all(s['relative_error'] > 0 for s in result.stages)
    assert list(tmp_path.iterdir()) == []


def test_seed_decides(teacher):
    loader = plain_loader('train', 96)
    results = [recast(teacher, RECIPE, loader, stages=STAGES, seed=seed, verbose=False) for seed in (0, 0, 1)]
    one, two, other = (result.student.state_dict() for result in results)
    assert differing(one, two) == [] and differing(one, other)


def test_options_reach_the_algorithm(teacher):
    result = recast(teacher, RECIPE, plain_loader('train', 96), start='closed_form', verbose=False,
                    stages=[dict(kind='recast', iters=0), STAGES[1]])  # fmt: skip
    assert [s['iters'] for s in result.stages] == [0, 0, 6] and result.stages[0]['relative_error'] < 1


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(SHAPE), 0


def batches_of(images, labels, **kwargs):
    return DataLoader(TensorDataset(images, labels), **dict(batch_size=4) | kwargs)


IMAGES, LABELS = torch.zeros(8, *SHAPE), torch.arange(8)


@pytest.mark.parametrize(
    ('loader', 'message'),
    [
        ([(IMAGES, LABELS)], 'train_loader must be a torch.utils.data.DataLoader, got list'),
        (DataLoader(TensorDataset(IMAGES), 4), r'train_loader must give pairs .*got \(4, 1, 8, 8\) torch.float32'),
        (DataLoader([dict(image=1)] * 4, 4), 'train_loader must give pairs .*got dict'),
        (batches_of(IMAGES[:, 0], LABELS), r'train_loader must give pairs .*got \(4, 8, 8\) torch.float32'),
        (batches_of(IMAGES, LABELS.float()), r'train_loader must give pairs .*\(4,\) torch.float32'),
        (batches_of(IMAGES, torch.eye(8)), r'train_loader must give pairs .*\(4, 8\) torch.float32'),
        (batches_of(IMAGES, LABELS, batch_size=16, drop_last=True), 'train_loader gives no batch'),
        (batches_of(IMAGES, LABELS, batch_size=None), 'train_loader has no batch size'),
        (DataLoader(Endless(), 4), 'Endless has no length'),
        (batches_of(IMAGES, LABELS + 5), 'label 12 is outside the 10 classes'),
        (batches_of(IMAGES, LABELS - 1), 'label -1 is outside the 10 classes'),
    ],
)
def test_unusable_loaders(teacher, loader, message):
    before, modes = tensors(teacher), [m.training for m in teacher.modules()]
    with pytest.raises((ValueError, TypeError), match=message) as error:
        recast(teacher, RECIPE, loader, verbose=False)
    assert '\n' not in str(error.value)
    assert differing(before, tensors(teacher)) == [] and [m.training for m in teacher.modules()] == modes


def test_other_mistakes(teacher, tmp_path):
    train, val = plain_loader('train', 32), batches_of(IMAGES, LABELS + 5)
    for wrong, message in (
        (dict(val_loader=val), 'label 12 is outside the 10 classes'),
        (dict(val_loader=[]), 'val_loader must be a torch.utils.data.DataLoader, got list'),
        (dict(stages=[dict(kind='finetune', iters=1)]), "no recast stage for block 'block1'"),
        (dict(recipe=[dict(source='block9', target='ConvBlock')]), "'block9' matches nothing"),
        (dict(teacher='resnet18'), 'teacher must be a network .nn.Module., got str'),
        (dict(strat='xavier'), 'strat'),
    ):
        arguments = dict(teacher=teacher, recipe=RECIPE, train_loader=train) | wrong
        with pytest.raises((ValueError, TypeError), match=message):
            recast(**arguments, work_dir=str(tmp_path / 'run'), verbose=False)
    assert not list(tmp_path.glob('run/*.pth'))
