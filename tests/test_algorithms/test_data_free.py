"""Data-free distillation: the steps against hand-written loops, who gets a gradient, and what is refused."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from plain_generator import METHODS, RATES, KeepLosses, adam, data_free
from tiny import NO_TEST, NO_VAL, SHAPE, classifier, config, differing, run, tensors, weights
from torch import nn
from torch.nn import functional as F

from mmrecast.engine.optimizers import check_optimizer, fit_scheduler, schedulers_by_name
from mmrecast.models import build_network
from mmrecast.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmrecast.stages import Stage
from mmrecast.utils.checkpoint import load_file

BATCH = dict(inputs=[None] * 8)  # nothing in it is looked at


def built(method='dfad', **changes):
    torch.manual_seed(0)
    algorithm = MODELS.build(data_free(method, **changes))
    for bn in (m for m in algorithm.teacher.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(bn.running_var, 0.5, 1.5)
        nn.init.normal_(bn.running_mean, 0, 0.1)
    algorithm.begin_stage(Stage('train', iters=1))
    return algorithm.train()


def optimizers(algorithm, rates=(0.05, 0.01)) -> OptimWrapperDict:
    """Plain SGD, so that a step is the gradient."""
    parts = algorithm.optimizer_parts
    return OptimWrapperDict(
        **{
            name: OptimWrapper(torch.optim.SGD([p for p in parts[name].parameters() if p.requires_grad], lr=rate))
            for name, rate in zip(('student', 'generator'), rates, strict=True)
        }
    )


def parts_of(algorithm):
    student, generator = copy.deepcopy(algorithm.student), copy.deepcopy(algorithm.generator)
    return student, generator, algorithm.teacher, *(torch.optim.SGD(m.parameters(), lr=r) for m, r in (
        (student, 0.05), (generator, 0.01),
    ))  # fmt: skip


def step(optimizer, loss) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def assert_same(algorithm, student, generator) -> None:
    assert differing(tensors(algorithm.student), tensors(student)) == []
    assert differing(tensors(algorithm.generator), tensors(generator)) == []


def test_dfad_is_the_authors_loop():
    """Five times the student on images of its own, then the generator through both networks; two iterations."""
    algorithm = built('dfad')
    student, generator, teacher, student_sgd, generator_sgd = parts_of(algorithm)
    torch.manual_seed(5)
    for _ in range(2):
        for _ in range(5):
            fake = generator(torch.randn(8, 16)).detach()
            step(student_sgd, (student(fake) - teacher(fake)).abs().mean())
        fake = generator(torch.randn(8, 16))
        step(generator_sgd, -(student(fake) - teacher(fake)).abs().mean())
    torch.manual_seed(5)
    both = optimizers(algorithm)
    for _ in range(2):
        log = algorithm.train_step(BATCH, both)
    assert_same(algorithm, student, generator)
    assert list(log) == ['loss', 'loss_link0', 'loss_generator', 'loss_generator_link0']


def test_zskt_is_the_authors_loop():
    """The generator, then four times the student on the same images, by divergence and attention."""
    algorithm = built('zskt')
    student, generator, teacher, student_sgd, generator_sgd = parts_of(algorithm)

    def forward(network, x):
        maps, backbone = [], network.backbone
        x = backbone.bn1(backbone.conv1(x)).relu()
        for stage in (backbone.layer1, backbone.layer2, backbone.layer3):
            maps.append(x := stage(x))
        return network.head.fc(x.mean((2, 3))), maps

    def divergence(s, t):
        return (t.softmax(1) * (t.log_softmax(1) - s.log_softmax(1))).mean()

    torch.manual_seed(5)
    fake = generator(torch.randn(8, 16))
    first = -divergence(student(fake), teacher(fake))
    step(generator_sgd, first)
    fake = fake.detach()
    for _ in range(4):
        (s, s_maps), (t, t_maps) = forward(student, fake), forward(teacher, fake)
        attention = [[F.normalize(m.square().mean(1).flatten(1)) for m in maps] for maps in (s_maps, t_maps)]
        match = sum(250 * (a - b).square().mean() for a, b in zip(*attention, strict=True))
        last = divergence(s, t) + match
        step(student_sgd, last)
    torch.manual_seed(5)
    log = algorithm.train_step(BATCH, optimizers(algorithm))
    for ours, theirs in ((algorithm.student, student), (algorithm.generator, generator)):
        for name, value in tensors(theirs).items():
            torch.testing.assert_close(tensors(ours)[name], value, rtol=1e-4, atol=1e-6)
    assert log['loss'].item() == pytest.approx(last.item(), rel=1e-5)
    assert log['loss_generator'].item() == pytest.approx(first.item(), rel=1e-5)
    assert log['loss_attention'].item() == pytest.approx(match.item(), rel=1e-5)


def test_dafl_is_one_batch_for_both():
    """One-hot-ness, balance and activation of the teacher for the generator, divergence for the student."""
    algorithm = built('dafl')
    student, generator, teacher, student_sgd, generator_sgd = parts_of(algorithm)
    torch.manual_seed(5)
    fake = generator(torch.randn(8, 16))
    t = teacher(fake)
    p = t.softmax(1).mean(0)
    feature = teacher.neck(teacher.backbone(fake))[0]
    terms = [0.05 * F.cross_entropy(t, t.argmax(1)), 5 * (p * p.log10()).sum(), -0.01 * feature.abs().mean()]
    loss = F.kl_div(student(fake.detach()).log_softmax(1), t.detach().softmax(1), reduction='batchmean')
    step(student_sgd, loss)
    step(generator_sgd, sum(terms))
    torch.manual_seed(5)
    log = algorithm.train_step(BATCH, optimizers(algorithm))
    for ours, theirs in ((algorithm.student, student), (algorithm.generator, generator)):
        for name, value in tensors(theirs).items():
            torch.testing.assert_close(tensors(ours)[name], value, rtol=1e-4, atol=1e-6)
    found = [log[f'loss_generator_{name}'].item() for name in ('one_hot', 'entropy', 'activation')]
    assert found == pytest.approx([term.item() for term in terms], rel=1e-5)
    assert log['loss'].item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize('method', METHODS)
def test_each_step_reaches_its_own_part_and_nothing_else(method):
    algorithm = built(method)
    before = tensors(algorithm.teacher)
    algorithm.parse_losses(algorithm.generator_loss(algorithm.draw(8)))[0].backward()
    assert all(p.grad is not None for p in algorithm.generator.parameters())
    assert all(p.grad is None and p.requires_grad for p in algorithm.student.parameters())
    algorithm.generator.zero_grad()
    with torch.no_grad():
        images = algorithm.draw(8)
    algorithm.parse_losses(algorithm.loss(images, None))[0].backward()
    assert all(p.grad is None for p in algorithm.generator.parameters())
    assert all(p.grad is not None for p in algorithm.student.parameters())
    assert all(p.grad is None for p in algorithm.teacher.parameters()) and not algorithm.teacher.training
    assert differing(before, tensors(algorithm.teacher)) == []


def test_of_the_data_only_the_size_of_the_batch_counts():
    found = []
    for data in (
        BATCH,
        dict(inputs=torch.full((8, *SHAPE), float('nan')), gt_label=torch.arange(8)),
        (torch.ones(8, *SHAPE), None),
    ):
        algorithm = built('dfad')
        torch.manual_seed(1)
        algorithm.train_step(data, optimizers(algorithm))
        found.append(tensors(algorithm.student))
    assert differing(found[0], found[1]) == differing(found[0], found[2]) == []


# ---- whole runs -----------------------------------------------------------------------------------------------------


def mean(steps: list[dict], name: str) -> float:
    return sum(one[name] for one in steps) / len(steps)


@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize(
    ('method', 'falling'),
    [('dafl', ['loss', 'loss_generator']), ('dfad', ['loss']), ('zskt', ['loss', 'loss_attention'])],
)
def test_trains_without_data(tmp_path, trained_teacher, method, falling):
    """In 40 iterations no number is NaN and the method's own terms fall.

    DAFL's generator and student both win; in the games of DFAD and ZSKT the student does, the generator against it.
    """
    model = data_free(method, teacher_ckpt=trained_teacher)
    rates = dict(student=adam(1e-2), generator=adam(1e-2)) if method == 'dafl' else RATES
    stages = [dict(kind='train', iters=40)]
    changes = dict(optim_wrapper=rates, param_scheduler=None, hooks=[dict(type='KeepLosses')])
    run(config(model, stages, **changes, **NO_VAL, **NO_TEST), tmp_path)
    steps = KeepLosses.steps
    assert len(steps) == 40 and all(value == value for one in steps for value in one.values())
    for name in falling:
        assert mean(steps[-10:], name) < mean(steps[:10], name), name


@pytest.mark.usefixtures('quick')
def test_the_student_goes_alone_and_the_checkpoint_has_both(tmp_path):
    cfg = config(data_free(), [dict(kind='train', iters=3)], optim_wrapper=RATES)
    result = run(cfg, tmp_path)
    assert set(weights(tmp_path)) == set(build_network(classifier()).state_dict())
    content = load_file((tmp_path / 'last_checkpoint').read_text())
    assert {name.split('.')[0] for name in content['state_dict']} == {'student', 'generator'}
    assert result['teacher'] is not None and result['stages'][0]['iters'] == 3


# ---- what is refused ------------------------------------------------------------------------------------------------


def refused(error, match, method='dfad', **changes):
    with pytest.raises(error, match=match):
        MODELS.build(data_free(method, **changes))


def generator(**changes) -> dict:
    return METHODS['dfad']['generator'] | changes


def generator_link(**changes) -> list[dict]:
    return [{k: v for k, v in (METHODS['dfad']['generator_links'][0] | changes).items() if v is not None}]


def test_generators_that_do_not_fit():
    where = r'makes images of shape \({}\), but the networks take \(1, 8, 8\) \(C, H, W\): set its img_size'
    refused(ValueError, where.format('3, 8, 8'), generator=generator(out_channels=3))
    refused(ValueError, where.format('1, 16, 16'), generator=generator(img_size=16))
    refused(ValueError, 'img_size must be a multiple of', generator=generator(img_size=10))
    refused(
        KeyError, "'DAFLGenerato' is not registered.*nearest: DAFLGenerator", generator=generator(type='DAFLGenerato')
    )
    refused(ValueError, 'the generator Identity has no latent_dim', generator=nn.Identity())


def test_losses_that_do_not_fit():
    refused(KeyError, "generator link 0: 'DiscrepancyLos' is not .*nearest: DiscrepancyLoss",
            generator_links=generator_link(loss=dict(type='DiscrepancyLos')))  # fmt: skip
    refused(TypeError, "generator link 0: DiscrepancyLoss takes no argument 'weight'.*nearest: loss_weight",
            generator_links=generator_link(loss=dict(type='DiscrepancyLoss', weight=-1)))  # fmt: skip
    for loss in ('L1Loss', 'KLDivergence'):
        refused(ValueError, f"link 0: {loss} keeps the gradient from the teacher tap 'logits'.*teacher_detach",
                generator_links=generator_link(loss=dict(type=loss)))  # fmt: skip
    refused(ValueError, 'generator link 0: OnehotLikeLoss cannot take what is read: .*positional',
            generator_links=generator_link(loss=dict(type='OnehotLikeLoss')))  # fmt: skip
    refused(ValueError, r'generator link x: OnehotLikeLoss cannot take .*got \(4, 8, 2, 2\)',
            generator_links=[dict(teacher='backbone.layer3', loss=dict(type='OnehotLikeLoss'), name='x')])  # fmt: skip
    refused(ValueError, 'link 0: CrossEntropyLoss needs gt_labels, which generated images do not have',
            links=[dict(student='logits', loss=dict(type='CrossEntropyLoss'))])  # fmt: skip


def test_links_that_do_not_fit():
    refused(ValueError, 'no generator_links: the generator has nothing to learn from', generator_links=[])
    refused(ValueError, 'neither links nor a task_loss', links=[])
    refused(ValueError, 'but no teacher', teacher=None)
    refused(
        ValueError, "generator link 0 has no key 'techer' .nearest: teacher", generator_links=generator_link(techer='x')
    )
    refused(ValueError, 'generator link 0 needs a loss', generator_links=generator_link(loss=None))
    refused(ValueError, 'generator link 0 needs a tap', generator_links=generator_link(student=None, teacher=None))
    refused(ValueError, 'generator link 0 must be a dict', generator_links=['logits'])
    refused(KeyError, "generator link 0: teacher tap: .*no module 'nek' .nearest: neck",
            generator_links=generator_link(teacher='nek'))  # fmt: skip
    refused(ValueError, "two generator links are called 'a'", generator_links=2 * generator_link(name='a'))
    refused(ValueError, 'student_iter must be a whole number of at least 1, got 0', student_iter=0)
    with pytest.raises(ValueError, match="DataFreeDistillation has no stage 'pretrain'"):
        built().expand([Stage('pretrain', iters=1)])


def test_lists_of_taps_are_summed_for_the_generator():
    one, many = (
        built(generator_links=[dict(teacher=taps, loss=dict(type='ActivationLoss'), name='a')])
        for taps in ('backbone.layer1', ['backbone.layer1', 'neck'])
    )
    with torch.no_grad():
        images = torch.randn(4, *SHAPE)
        maps = many.teacher.backbone.layer1(many.teacher.backbone.bn1(many.teacher.backbone.conv1(images)).relu())
        neck = many.teacher.neck(many.teacher.backbone(images))[0]
        assert one.generator_loss(images)['loss_a'].item() == pytest.approx(-maps.abs().mean().item(), rel=1e-5)
        expected = -maps.abs().mean() - neck.abs().mean()
        assert many.generator_loss(images)['loss_a'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_generator_may_have_a_start_of_its_own():
    algorithm = built(generator=generator(init_cfg=dict(type='Constant', layer='Linear', val=0.25)))
    assert torch.equal(algorithm.generator.linear.weight, torch.full((64, 16), 0.25))


def test_other_inputs_of_the_teacher():
    """The teacher sees generated images as it would see real ones: here, twice as bright."""
    algorithm = built(teacher_input=dict(mean=[77.9], std=[95.9 / 2]))
    images = torch.randn(4, *SHAPE)
    with torch.no_grad():
        expected = -(algorithm.student(images) - algorithm.teacher(2 * images)).abs().mean()
        found = algorithm.generator_loss(images)['loss_link0']
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


# ---- config files ---------------------------------------------------------------------------------------------------

TAPS = dict(stages=[f'backbone.layer{i}' for i in (1, 2, 3)], penultimate=dict(path='head.fc', read='input'))


@pytest.mark.parametrize('method', METHODS)
def test_the_file_of_the_method_trains(method, repo_root):
    """One iteration of what the file says, with its own optimisers and schedules, on small images and networks."""
    cfg = Config.fromfile(repo_root / f'configs/distill/_base_/methods/{method}.py')
    networks = {name: data_free()[name] for name in ('student', 'teacher', 'data_preprocessor')}
    model = cfg.model.to_dict() | networks | dict(taps=dict(student=TAPS, teacher=TAPS))
    model['generator'] |= dict(img_size=8, hidden_channels=4, out_channels=1)
    (stage,) = (Stage.from_config(entry) for entry in cfg.data_free_stages)
    algorithm = MODELS.build(model)
    if method != 'dfad':
        assert algorithm.student_iter == dict(dafl=1, zskt=10)[method] and algorithm.share_images
    for name, schedulers in schedulers_by_name(
        [fit_scheduler(stage, one, 100) for one in listed(stage)], RATES
    ).items():
        check_optimizer(name, stage.optim_wrapper[name], schedulers, 100, 'cpu')
    algorithm.begin_stage(algorithm.expand([stage])[0])
    build = OPTIM_WRAPPER_CONSTRUCTORS.get('SeparateOptimWrapperConstructor')
    log = algorithm.train().train_step(BATCH, build(dict(stage.optim_wrapper))(algorithm))
    assert all(torch.isfinite(value) for value in log.values()) and cfg.generated_batch in (128, 256, 1024)


def listed(stage: Stage) -> list[dict]:
    return [stage.param_scheduler] if isinstance(stage.param_scheduler, dict) else list(stage.param_scheduler)
