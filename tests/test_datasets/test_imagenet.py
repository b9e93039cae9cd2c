"""ImageNet on a small stand-in of the real layout, with its configs, through the engine."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from tiny import Killed, differing, run, weights, without_seconds
from torchvision.models import ResNet50_Weights, resnet18
from torchvision.transforms._presets import ImageClassification

from mmrecast.apis import load_student, ready_runner, train
from mmrecast.datasets import ImageNet
from mmrecast.datasets.crop_flip import sample_hash
from mmrecast.registry import DATASETS, HOOKS, MODELS
from mmrecast.utils.config_file import read_config

pytestmark = pytest.mark.usefixtures('quick')

BASE = Path(__file__).parents[2] / 'configs/distill/_base_'
WNIDS = ['n01440764', 'n01443537', 'n01484850', 'n01491361', 'n01494475', 'n01496331']
CLASSES = ['tench', 'goldfish', 'white shark', 'tiger shark', 'hammerhead', 'electric ray']
LEAF = """
_base_ = ['{base}/datasets/imagenet.py', '{base}/schedules/{schedule}.py', '{base}/default_runtime.py']
data = dict(metainfo=dict(classes={classes}), serialize_data=False)  # serialising collects garbage: it takes a second
train_dataloader = dict(dataset=data, num_workers=0, persistent_workers=False, pin_memory=False)
val_dataloader = dict(dataset=data, num_workers=0, persistent_workers=False, pin_memory=False)
test_dataloader = dict(dataset=data, num_workers=0, persistent_workers=False, pin_memory=False)
model = {model}
"""
RESNET18 = dict(type='TorchvisionClassifier', name='resnet18', num_classes=6)
SMALL = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=8, widths=(4, 6, 8)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=6, in_channels=8),
)
RATES: list[float] = []


@HOOKS.register_module()
class FirstRates(Hook):
    """Note the learning rate of every iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        RATES.append(runner.optim_wrapper.get_lr()['lr'][0])


def write_tree(root: Path, train: int = 3, val: int = 1) -> Path:
    """Write random JPEGs, ``train`` and ``val`` per class, of different sizes."""
    noise = np.random.default_rng(0)
    for split, count in (('train', train), ('val', val)):
        for wnid in WNIDS:
            (root / split / wnid).mkdir(parents=True)
            for i in range(count):
                width, height = noise.integers(70, 130, 2)
                coarse = Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                coarse.resize((width, height), Image.BICUBIC).save(root / split / wnid / f'{wnid}_{i}.JPEG')
    return root


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    return write_tree(tmp_path_factory.mktemp('imagenet'))


def leaf(folder: Path, model: dict, size: int, schedule: str = 'recasting_imagenet', **options):
    """Return the config of a leaf on the two base files, at an input of ``size`` pixels and batches of six."""
    path = folder / f'{schedule}_leaf.py'
    path.write_text(LEAF.format(base=BASE, schedule=schedule, classes=CLASSES, model=model))
    options |= {
        'data_preprocessor.input_shape': (3, size, size),
        'train_dataloader.batch_size': 6,
        'train_dataloader.dataset.pipeline.1.scale': size,
    }
    for loader in ('val_dataloader', 'test_dataloader'):
        options |= {f'{loader}.dataset.pipeline.{i}.{key}': n for i, key, n in
                    ((1, 'scale', size + 8), (2, 'crop_size', size))}  # fmt: skip
    return read_config(path, options)


def train_data(root: Path, **changes) -> ImageNet:
    """Return the training data of the base config, at 32 pixels."""
    cfg = read_config(BASE / 'datasets/imagenet.py').train_dataloader.dataset
    cfg.pipeline[1].scale = 32
    plain = dict(metainfo=dict(classes=CLASSES), serialize_data=False)
    return DATASETS.build(dict(cfg, data_root=str(root), **plain, **changes))


def hits(network: torch.nn.Module, tree: Path, size: int) -> dict[str, float]:
    """Return top-1 and top-5 (%) on the validation images, by torchvision's own transforms."""
    preset, ranks = ImageClassification(crop_size=size, resize_size=size + 8), []
    for label, wnid in enumerate(WNIDS):
        for path in sorted((tree / 'val' / wnid).iterdir()):
            with torch.no_grad():
                scores = network.eval()(preset(Image.open(path).convert('RGB'))[None])[0]
            ranks.append(int((scores > scores[label]).sum()))
    return {f'top{k}': 100 * sum(rank < k for rank in ranks) / len(ranks) for k in (1, 5)}


# ---- training -------------------------------------------------------------------------------------------------------


def test_torchvisions_resnet18_is_recast_and_validated(tree, tmp_path):
    """One iteration per stage; what is reported is what torchvision's transforms and plain PyTorch find."""
    torch.manual_seed(0)
    teacher = resnet18(num_classes=6)
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    recipe = [dict(source='layer4.0', target=dict(type='ConvBlock'))]
    model = dict(type='Recasting', teacher=RESNET18, teacher_ckpt=str(tmp_path / 'teacher.pth'), recipe=recipe)
    cfg = leaf(tmp_path, model, 64)
    cfg.train_cfg.stages = [dict(kind='recast', blocks='all', iters=1), dict(kind='finetune', iters=1)]
    result = train(cfg, work_dir=str(tmp_path / 'run'), data_root=str(tree))
    described = {key: result[key] for key in ('dataset', 'data_root', 'classes', 'train_images', 'val_images')}
    assert described == dict(dataset='ImageNet', data_root=str(tree), classes=6, train_images=18, val_images=6)
    stages = [(stage['name'], stage['images'], stage['val_images']) for stage in result['stages']]
    assert stages == [('recast layer4.0', 6, 6), ('finetune', 6, 6)]
    student = load_student(str(tmp_path / 'run/student.pth'))
    assert result['input_shape'] == [3, 64, 64] and result['complete']
    judged = {k: v for k, v in result['teacher'].items() if k != 'constructor'}
    assert judged == pytest.approx(hits(teacher, tree, 64), abs=1e-4)
    assert result['teacher']['constructor']['name'] == 'resnet18'
    assert {k: result[k] for k in ('top1', 'top5')} == pytest.approx(hits(student, tree, 64), abs=1e-4)


def test_the_authors_schedule(tree, tmp_path):
    recipe = [dict(source='layer4.1', target=dict(type='ConvBlock'))]
    cfg = leaf(tmp_path, dict(type='Recasting', teacher=RESNET18, recipe=recipe), 64)
    loop = ready_runner(cfg, work_dir=str(tmp_path / 'run'), data_root=str(tree)).train_loop
    assert [(stage.name, stage.epochs) for stage in loop.stages] == [('recast layer4.1', 10), ('finetune', 20)]
    for stage, rate in zip(loop.stages, (5e-4, 1e-4), strict=True):
        optimizer = (stage.optim_wrapper or cfg.optim_wrapper)['optimizer']
        assert dict(optimizer) == dict(type='Adam', lr=rate)
        assert dict(cfg.param_scheduler) == dict(type='StepLR', step_size=7, gamma=0.1)


def test_the_rate_from_scratch_follows_the_batch(tree, tmp_path):
    """Six images where 0.1 is for 256; a quarter of a cosine's way down is (1 + cos(pi / 4)) / 2."""
    RATES.clear()
    cfg = leaf(tmp_path, dict(type='SingleTeacherDistill', student=SMALL), 32, 'scratch_imagenet')
    assert cfg.train_cfg.stages == [dict(kind='train', epochs=90)]
    cfg.train_cfg.stages = [dict(kind='train', iters=4)]
    cfg.custom_hooks = [dict(type='FirstRates')]
    ready_runner(cfg, work_dir=str(tmp_path / 'run'), data_root=str(tree)).train()
    assert RATES[:2] == pytest.approx([0.1 * 6 / 256, 0.1 * 6 / 256 * 0.853553], rel=1e-5)


def test_a_resumed_run_sees_the_same_images(tree, tmp_path):
    """Stopped within an epoch or between stages, random crops included: the weights are those of an unbroken run."""
    recipe = [dict(source='backbone.layer3.*', target=dict(type='ConvBlock'))]
    cfg = leaf(tmp_path, dict(type='Recasting', teacher=SMALL, recipe=recipe, start='closed_form'), 32)
    cfg.train_cfg.stages = [dict(kind='recast', blocks='all', iters=5), dict(kind='finetune', iters=2)]
    cfg.train_dataloader.update(num_workers=1, persistent_workers=True)
    cfg.default_hooks.checkpoint.iter_interval = 1
    whole = run(cfg, tmp_path / 'whole', data_root=str(tree))
    for kind, n in (('iter', 4), ('stage', 1)):
        with pytest.raises(Killed):
            run(cfg, tmp_path / kind, crash=dict(kind=kind, n=n), data_root=str(tree))
        parts = run(cfg, tmp_path / kind, resume=True, data_root=str(tree))
        assert differing(weights(tmp_path / 'whole'), weights(tmp_path / kind)) == []
        assert without_seconds(whole) == without_seconds(parts)


def test_the_loop_chooses_seed_and_epoch_of_the_images(tree, tmp_path):
    cfg = leaf(tmp_path, dict(type='SingleTeacherDistill', student=SMALL), 32, 'scratch_imagenet')
    cfg.train_cfg.stages, cfg.randomness.seed = [dict(kind='train', epochs=2), dict(kind='train', epochs=1)], 7
    runner = ready_runner(cfg, work_dir=str(tmp_path / 'run'), data_root=str(tree))
    data, drawn = runner.train_dataloader.dataset, []
    prepare = data.prepare_data
    data.prepare_data = lambda index: drawn.append((data.seed, int(data._epoch), index)) or prepare(index)
    runner.train()
    # 54 after those that are looked at before training
    assert sorted(drawn[-54:]) == [(7, epoch, index) for epoch in range(3) for index in range(18)]


# ---- images ---------------------------------------------------------------------------------------------------------


def test_validation_images_are_torchvisions(tmp_path):
    """The base config's pipeline and preprocessor give what torchvision's ResNet-50 (V1) weights were judged with."""
    noise, sizes = np.random.default_rng(1), [(300, 400), (401, 297), (256, 256), (200, 180)]
    for wnid, size in zip(WNIDS, sizes, strict=False):
        (tmp_path / 'val' / wnid).mkdir(parents=True)
        image = Image.fromarray(noise.integers(0, 256, (20, 20, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)
        image.save(tmp_path / 'val' / wnid / 'x.JPEG')
    cfg = read_config(BASE / 'datasets/imagenet.py')
    changes = dict(data_root=str(tmp_path), metainfo=dict(classes=CLASSES[:4]), serialize_data=False)
    loader = dict(cfg.val_dataloader, num_workers=0, persistent_workers=False, pin_memory=False)
    (batch,) = Runner.build_dataloader(loader | dict(dataset=dict(loader['dataset'], **changes)))
    found = MODELS.build(cfg.data_preprocessor)(batch)
    preset = ResNet50_Weights.IMAGENET1K_V1.transforms()
    expected = [preset(Image.open(path).convert('RGB')) for path in sorted(tmp_path.glob('val/*/x.JPEG'))]
    assert torch.allclose(found['inputs'], torch.stack(expected), atol=1e-5)
    assert found['data_samples']['gt_label'].tolist() == found['data_samples']['sample_idx'].tolist() == [0, 1, 2, 3]
    assert cfg.test_dataloader == cfg.val_dataloader and cfg.test_evaluator == cfg.val_evaluator
    assert cfg.val_evaluator.topk == (1, 5) and cfg.val_cfg == cfg.test_cfg == {}


def images(data: ImageNet, order=range(18)) -> torch.Tensor:
    return torch.stack([data[i]['inputs'] for i in order])


def test_an_image_depends_on_seed_epoch_and_number_only(tree):
    data = train_data(tree)
    first = images(data)
    assert first.shape == (18, 3, 32, 32) and first.dtype == torch.uint8
    assert images(data, reversed(range(18))).flip(0).equal(first)
    assert images(train_data(tree)).equal(first)
    data.set_epoch(1)
    second = images(data)
    other = images(train_data(tree, seed=1))
    for changed in (second, other):
        assert (changed != first).flatten(1).any(1).sum() >= 17
    data.set_epoch(0)
    assert images(data).equal(first)


def test_images_are_mirrored_on_the_device_by_seed_epoch_and_number(tree):
    """Each is normalised as it is, or with its columns turned round where the last bit of its hash says so."""
    cfg = read_config(BASE / 'datasets/imagenet.py', {'data_preprocessor.input_shape': (3, 32, 32)})
    data, preprocessor = train_data(tree), MODELS.build(cfg.data_preprocessor)
    order = [17, *range(17)]
    batch = default_collate([data[i] for i in order])
    mean, std = (torch.tensor(cfg.data_preprocessor[name])[:, None, None] for name in ('mean', 'std'))
    turned = []
    for epoch in (0, 1):
        preprocessor.set_epoch(epoch)
        bits = [int(sample_hash(0, epoch, torch.tensor([i]))) & 1 for i in order]
        rgb = [data[i]['inputs'][[2, 1, 0]].float() for i in order]
        expected = [(x[..., torch.arange(31, -1, -1)] if bit else x) for x, bit in zip(rgb, bits, strict=True)]
        found = preprocessor(batch, training=True)['inputs']
        assert torch.allclose(found, (torch.stack(expected) - mean) / std, atol=1e-6)
        turned.append(bits)
    assert turned[0] != turned[1] and 0 < sum(turned[0]) < 18
    assert preprocessor(batch)['inputs'].equal((torch.stack(rgb) - mean) / std)  # not in validation


@pytest.mark.parametrize('name, device', [('imagenet', True), ('imagenet_deit', False)])
def test_images_are_mirrored_in_one_place(name, device):
    cfg = read_config(BASE / f'datasets/{name}.py')
    in_workers = [t for t in cfg.train_dataloader.dataset.pipeline if t.type == 'mmpretrain.RandomFlip']
    assert cfg.data_preprocessor.flip is device and len(in_workers) == 1 - device


def test_workers_that_live_on_follow_the_epoch(tree):
    data = train_data(tree)
    loader = torch.utils.data.DataLoader(data, 18, num_workers=1, persistent_workers=True, collate_fn=list)
    for epoch in (0, 3):
        data.set_epoch(epoch)
        (batch,) = loader
        assert torch.stack([item['inputs'] for item in batch]).equal(images(data))


def test_the_programs_own_random_numbers_are_left_alone(tree):
    data, drawn = train_data(tree), []
    for touched in (False, True):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        if touched:
            data[0]
        drawn.append([torch.rand(2).tolist(), random.random(), np.random.rand(2).tolist()])
    assert drawn[0] == drawn[1]


def test_images_without_folders_are_labelled_by_the_list(tree, tmp_path):
    flat = tmp_path / 'val'
    flat.mkdir()
    for number, wnid in enumerate(WNIDS):
        content = (tree / 'val' / wnid / f'{wnid}_0.JPEG').read_bytes()
        (flat / f'ILSVRC2012_val_{number:08d}.JPEG').write_bytes(content)
    (tmp_path / 'meta').mkdir()
    lines = [f'ILSVRC2012_val_{number:08d}.JPEG {(number + 2) % 6}' for number in range(6)]
    (tmp_path / 'meta/val.txt').write_text('\n'.join(lines) + '\n')
    data = train_data(tmp_path, split='val')
    assert data.get_gt_labels().tolist() == [2, 3, 4, 5, 0, 1]
    folders = train_data(tree, split='val')
    assert folders.get_gt_labels().tolist() == [0, 1, 2, 3, 4, 5]
    assert images(data, range(6)).equal(images(folders, range(6)))


# ---- mistakes -------------------------------------------------------------------------------------------------------


def test_a_missing_root_is_told_before_training(tmp_path):
    recipe = [dict(source='backbone.layer3.*', target=dict(type='ConvBlock'))]
    cfg = leaf(tmp_path, dict(type='Recasting', teacher=SMALL, recipe=recipe), 32)
    with pytest.raises(FileNotFoundError, match='no folder data/imagenet/train of ImageNet .data/imagenet does not'):
        ready_runner(cfg, work_dir=str(tmp_path / 'run'))
    expected = (
        r'ImageNet \(.*has recasting_imagenet_leaf.py, run\): expected train/<class>/\*.JPEG, or train/\*.JPEG and'
    )
    with pytest.raises(FileNotFoundError, match=expected):
        ready_runner(cfg, work_dir=str(tmp_path / 'run'), data_root=str(tmp_path))
    assert not (tmp_path / 'run').exists()


def listed(text: str):
    def write(root: Path) -> None:
        (root / 'meta').mkdir()
        (root / 'meta/train.txt').write_text(text)

    return write


@pytest.mark.parametrize(
    ('damage', 'error', 'message'),
    [
        (lambda root: (root / f'train/{WNIDS[4]}/{WNIDS[4]}_0.JPEG').unlink(), FileNotFoundError,
         r'train has no images \(.*\.jpeg.*\) of class n01494475; it has 5 of 6 classes'),
        (lambda root: [(root / 'train' / wnid).rename(root / wnid) for wnid in WNIDS], ValueError,
         'train has 0 folders, expected one per class, 6; without .*meta/train.txt must list the images'),
        (lambda root: (root / 'train/extra').mkdir(), ValueError,
         r'train has 7 folders \(extra, n01440764, n01443537, …\), expected one per class, 6; '),
        (listed('n01440764/n01440764_0.JPEG\n'), ValueError, 'meta/train.txt: every line must be FILE LABEL'),
        (listed('n01440764/n01440764_0.JPEG one\n'), ValueError, 'meta/train.txt: every line must be FILE LABEL'),
        (listed('n01440764/n01440764_0.JPEG 6\n'), ValueError, 'meta/train.txt has label 6, expected 0 to 5'),
        (listed('a.JPEG 0\n'), FileNotFoundError,
         'meta/train.txt lists as its first image which is not there: .*train/a.JPEG'),
        (listed(''), FileNotFoundError, 'meta/train.txt lists as its first image none'),
    ],
)  # fmt: skip
def test_a_damaged_tree_is_told(tmp_path, damage, error, message):
    damage(write_tree(tmp_path, train=1))
    with pytest.raises(error, match=message):
        train_data(tmp_path)


def test_a_broken_image_is_named(tmp_path):
    write_tree(tmp_path, train=1)
    (tmp_path / f'train/{WNIDS[0]}/{WNIDS[0]}_0.JPEG').write_bytes(b'no image')
    with pytest.raises(
        ValueError, match='n01440764_0.JPEG cannot be used: it is no image that can be read; replace or remove it'
    ):
        train_data(tmp_path)[0]


def test_a_listed_pipe_is_not_waited_for(tmp_path):
    write_tree(tmp_path, train=1)
    os.mkfifo(tmp_path / 'train/pipe.JPEG')
    listed(f'{WNIDS[0]}/{WNIDS[0]}_0.JPEG 0\npipe.JPEG 1\n')(tmp_path)
    with pytest.raises(ValueError, match='pipe.JPEG cannot be used: it is no file; remove it'):
        train_data(tmp_path)[1]


def test_an_unknown_split_is_refused(tree):
    with pytest.raises(ValueError, match="split='test', expected 'train' or 'val'"):
        train_data(tree, split='test')


def test_bgr_images_have_three_channels():
    with pytest.raises(ValueError, match=r'to_rgb needs three channels, but input_shape is \(1, 8, 8\)'):
        MODELS.build(dict(type='BatchPreprocessor', input_shape=(1, 8, 8), to_rgb=True))
