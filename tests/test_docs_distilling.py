"""The code shown in docs/distilling.md is run as it stands there."""

import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from pages import ROOT, files_of, rows_below, write
from PIL import Image
from tiny import differing, tensors
from torch import Tensor, nn

from mmrecast.algorithms import SingleTeacherDistill
from mmrecast.apis import load_student, train
from mmrecast.apis.config_check import check_config
from mmrecast.links import Reader, parse_taps
from mmrecast.models import build_network
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.utils.checkpoint import load_file, save_file
from mmrecast.utils.mistakes import explain

GUIDE = (ROOT / 'docs/distilling.md').read_text()
SHAPE = (3, 64, 64)  # in place of 224x224


@pytest.fixture(scope='module')
def guide(registered, tmp_path_factory) -> Iterator[Path]:
    """Return a folder with the files of docs/distilling.md, random teachers, and two images of each class."""
    folder = tmp_path_factory.mktemp('guide')
    with pytest.MonkeyPatch.context() as patch:
        write(GUIDE, folder, patch)
        for name, file in (('resnet34', 'resnet34_flowers.pth'), ('regnet_y_400mf', 'regnet_flowers.pth')):
            network = build_network(dict(type='TorchvisionClassifier', name=name, num_classes=3))
            torch.save(network.state_dict(), folder / file)
        noise = np.random.default_rng(0)
        for split in ('train', 'val'):
            for flower in ('daisy', 'rose', 'tulip'):
                place = folder / 'data/flowers' / split / flower
                place.mkdir(parents=True)
                for number in range(2):
                    pixels = noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(place / f'{number}.jpg')
        yield folder
        sys.modules.pop('my_networks', None)


def read(guide: Path, name: str) -> Config:
    cfg = Config.fromfile(guide / f'{name}.py')
    check_config(cfg)
    return cfg


def built(cfg: Config) -> SingleTeacherDistill:
    """Build the algorithm of a config for images of `SHAPE`."""
    torch.manual_seed(0)
    preprocessor = dict(cfg.data_preprocessor, input_shape=SHAPE)
    algorithm = MODELS.build(dict(cfg.model, data_preprocessor=preprocessor))
    algorithm.expand([Stage.from_config(stage) for stage in cfg.train_cfg.stages])
    return algorithm


LOSSES = {
    'my_kd': [{'task', 'link0'}],
    'my_links': [{'task', 'kd', 'hint'}],
    'my_phases': [{'hint'}, {'task', 'kd'}],
    'my_factor_transfer': [{'reconstruction'}, {'task', 'link1'}],
    'my_input': [{'task', 'link0'}],
    'my_teachers': [{'task', 'kd', 'hint'}],
    'my_self': [{'task', 'exit1', 'exit2', 'exit3'}],
}


@pytest.fixture(scope='module')
def step(guide) -> Callable[[str], tuple[SingleTeacherDistill, list[dict[str, Tensor]], list[set[str]]]]:
    """Return a function that takes a step of every stage of a file of the page, once."""

    @functools.cache
    def take(name: str):
        cfg = read(guide, name)
        algorithm = built(cfg)
        losses, trained = [], []
        samples = dict(gt_label=torch.tensor([0, 1, 2, 0]), sample_idx=torch.arange(4))
        for stage in map(Stage.from_config, cfg.train_cfg.stages):
            algorithm.begin_stage(stage)
            algorithm.train()
            losses.append(algorithm.loss(torch.randn(4, *SHAPE), samples))
            sum(losses[-1].values()).backward()
            trained.append({n for n, p in algorithm.named_parameters() if p.grad is not None and p.grad.any()})
        return algorithm, losses, trained

    return take


@pytest.mark.parametrize('name', LOSSES)
def test_configs_of_the_guide_train(step, name) -> None:
    _, losses, trained = step(name)
    assert [set(one) for one in losses] == [{f'loss_{term}' for term in terms} for terms in LOSSES[name]]
    assert all(value.isfinite() for one in losses for value in one.values())
    assert all(trained)


def test_every_file_of_the_guide_is_tried() -> None:
    others = {'my_pair', 'my_networks', 'my_start', 'my_second_student'}
    assert {name.removesuffix('.py') for name in files_of(GUIDE)} == {*LOSSES, *others}


def test_pretraining_reaches_what_the_guide_says(step) -> None:
    _, _, (first, then) = step('my_phases')
    parts = {name.split('.')[1] for name in first if name.startswith('student.')}
    assert parts == {'conv1', 'bn1', 'layer1', 'layer2', 'layer3'}
    assert any(name.startswith('links.1.connector') for name in first)
    assert {'student.fc.weight', 'student.conv1.weight'} <= then and not any(n.startswith('links') for n in then)


def test_a_connector_that_an_earlier_run_left(guide, step) -> None:
    """The second run has no pretrain stage, and starts with the paraphraser of the first, frozen."""
    first, _, _ = step('my_factor_transfer')
    files = first.stage_products(Stage('pretrain', iters=1))
    assert set(files) == {'paraphraser.pth'}
    path = guide / 'work_dirs/my_factor_transfer/paraphraser.pth'
    path.parent.mkdir(parents=True)
    save_file(files['paraphraser.pth'], str(path))
    second, losses, (trained,) = step('my_second_student')
    assert set(losses[0]) == {'loss_task', 'loss_link1'}
    assert not differing(tensors(first.connectors.paraphraser), tensors(second.connectors.paraphraser))
    assert not any('paraphraser' in name for name in trained)
    cfg = read(guide, 'my_second_student')
    cfg.model.teacher_ckpt = None  # another teacher
    with pytest.raises(ValueError, match='was trained on another teacher'):
        built(cfg)


def test_a_teacher_that_sees_images_in_another_way(guide, step) -> None:
    algorithm, _, _ = step('my_input')
    preprocessor = read(guide, 'my_input').data_preprocessor
    pixels = torch.full((1, 3, 8, 8), 200.0)
    normal = (pixels - torch.tensor(preprocessor.mean).view(3, 1, 1)) / torch.tensor(preprocessor.std).view(3, 1, 1)
    seen = algorithm.teacher_input(normal)
    assert seen.shape == (1, 3, 256, 256)
    assert torch.allclose(seen, torch.full_like(seen, (200 - 127.5) / 127.5), atol=1e-5)


def test_several_teachers_are_weighted(step) -> None:
    algorithm, _, _ = step('my_teachers')
    images = torch.randn(2, *SHAPE)
    deep, light = algorithm.teacher.deep, algorithm.teacher.light
    resized = nn.functional.interpolate(images, (256, 256), mode='bilinear', antialias=True)
    with torch.no_grad():
        expected = (2 * deep(images) + light(resized)) / 3
        assert torch.allclose(algorithm.teacher(images), expected, atol=1e-5)


def test_self_distillation_leaves_the_plain_network(step) -> None:
    algorithm, _, _ = step('my_self')
    plain = build_network(dict(type='TorchvisionClassifier', name='resnet18', num_classes=3))
    assert set(algorithm.student.state_dict()) == set(plain.state_dict())


def test_a_network_of_the_users_own_from_a_run_to_its_student(guide) -> None:
    """A whole training of one batch on the folder of images; torchvision's weights are not fetched."""
    cfg = read(guide, 'my_start')
    assert cfg.model.student == dict(type='FlowerNet', name='resnet18', weights='IMAGENET1K_V1')
    cfg.merge_from_dict({'model.student.weights': None, 'train_cfg.budget': 1})
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False)
    result = train(cfg, work_dir='work_dirs/my_start')
    assert (result['method'], result['classes'], result['images']) == ('kd', 3, 6)
    network = load_student('work_dirs/my_start/student.pth')
    assert type(network).__name__ == 'ResNet' and network.fc.out_features == 3
    assert not differing(tensors(network), load_file('work_dirs/my_start/student.pth')['weights'])


def test_methods_of_the_zoo_ask_for_the_names_of_the_pair(guide) -> None:
    networks = read(guide, 'my_kd').model
    asked = set()
    for path in (ROOT / 'configs/distill/_base_/methods').glob('*.py'):
        for link in Config.fromfile(path).model.get('links', []):
            for side in ('student', 'teacher'):
                taps = link.get(side) or []
                asked |= {tap for tap in ([taps] if isinstance(taps, str) else taps) if '.' not in tap}
    for side in ('student', 'teacher'):
        assert asked - {'logits'} <= set(networks.taps[side])
        assert set(networks.taps[side]) - asked <= {'stage3', 'stage4'}  # exits of networks with four stages


@pytest.mark.parametrize('name', ['at', 'crd', 'fsp', 'ofd', 'reviewkd', 'vid'])
def test_methods_of_the_zoo_on_the_pair(guide, name) -> None:
    method = Config.fromfile(ROOT / f'configs/distill/_base_/methods/{name}.py').model
    networks = read(guide, 'my_kd').model
    preprocessor = dict(type='BatchPreprocessor', input_shape=SHAPE)
    given = dict(teacher=networks.teacher, student=networks.student, taps=networks.taps)
    algorithm = MODELS.build(dict(method, data_preprocessor=preprocessor, **given))
    algorithm.check_training_data(range(100), dict(sample_idx=torch.arange(4), gt_label=torch.arange(4)))
    algorithm.begin_stage(Stage(method.links[0].get('stage', 'train'), iters=1))
    samples = dict(gt_label=torch.tensor([0, 1, 2, 0]), sample_idx=torch.arange(4))
    assert all(value.isfinite() for value in algorithm.loss(torch.randn(4, *SHAPE), samples).values())


def resnet18_by_hand(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return activations of torchvision's ResNet-18, layer by layer."""
    found = {}
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    for name in ('layer1', 'layer2', 'layer3', 'layer4'):
        x = found[name] = network.get_submodule(name)(x).clone()
    found['pooled'] = x.mean((2, 3))
    found['logits'] = found['pooled'] @ network.fc.weight.T + network.fc.bias
    return found


@torch.no_grad()
def test_taps_of_the_guide_read_what_it_says(guide) -> None:
    from torchvision.models import VisionTransformer

    aliases = read(guide, 'my_kd').model.taps.student
    torch.manual_seed(0)
    network = build_network(dict(type='TorchvisionClassifier', name='resnet18', num_classes=3)).eval()
    transformer = VisionTransformer(32, 16, 4, 2, 8, 8, num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    by_hand = resnet18_by_hand(network, images)
    attended = []
    transformer.encoder.layers[3].self_attention.register_forward_hook(lambda m, args, out: attended.append(out[0]))
    transformer(images)
    taps = [eval(row[0].strip('`')) for row in rows_below(GUIDE, 'tap')]
    expected = [by_hand[name] for name in ('layer4', 'logits', 'pooled', 'pooled', 'layer4')]
    expected += [attended[0], [by_hand['layer1'], by_hand['layer2']]]
    for spec, wanted in zip(taps, expected, strict=True):
        owner = transformer if 'item' in spec else network
        parsed = parse_taps(spec, aliases, owner)
        listed = parsed if isinstance(parsed, list) else [parsed]
        values = Reader('student', owner, listed).probe(images)
        for tap, one in zip(listed, wanted if isinstance(wanted, list) else [wanted], strict=True):
            assert torch.allclose(values[tap], one, atol=1e-5), spec


@torch.no_grad()
def test_preacts_of_the_pair_are_the_stages_before_their_last_activation(guide) -> None:
    cfg = read(guide, 'my_kd').model
    for side in ('student', 'teacher'):
        torch.manual_seed(0)
        network = build_network(dict(cfg[side])).eval()
        before, behind = (parse_taps(cfg.taps[side][name], cfg.taps[side], network) for name in ('preacts', 'stages'))
        values = Reader(side, network, [*before, *behind]).probe(torch.randn(2, *SHAPE))
        for one, other in zip(before, behind, strict=True):
            assert torch.equal(values[one].relu(), values[other]) and values[one].min() < 0


@pytest.fixture(scope='module')
def networks(guide) -> dict:
    cfg = read(guide, 'my_kd')
    return dict(
        student=build_network(cfg.model.student), teacher=build_network(cfg.model.teacher), taps=cfg.model.taps,
        data_preprocessor=dict(type='BatchPreprocessor', input_shape=(3, 224, 224)),
    )  # fmt: skip


@pytest.mark.parametrize(('link', 'said'), rows_below(GUIDE, 'link'))
def test_mistakes_say_what_the_guide_shows(networks, link, said) -> None:
    entry = dict(eval(link.strip('`')), loss=dict(type='MSELoss'))
    with pytest.raises((KeyError, ValueError)) as caught:
        SingleTeacherDistill(links=[entry], **networks)
    assert explain(caught.value).startswith(said)


def test_connectors_of_the_guide_exist() -> None:
    section = GUIDE.partition('## Connectors')[2].partition('\n## ')[0]
    names = re.findall(r'`(\w+Connector|LinearEmbed)`', section)
    assert len(set(names)) == 4 and all(MODELS.get(name) for name in names)
