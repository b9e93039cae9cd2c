"""Distillation through links: which losses there are, what they compare, and what is refused."""

import copy

import pytest
import torch
from tiny import CHAIN, classifier, forward, preprocessor
from torch import nn

from mmrecast.models import build_network
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.utils.checkpoint import save_file

LOGITS = dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))
INNER = dict(
    student='backbone.layer2.1', teacher='backbone.layer2.1', loss=dict(type='MSELoss', loss_weight=2.0),
    connector=dict(type='ConvModuleConnector', in_channel=3, out_channel=6, act_cfg=None),
)  # fmt: skip


def distil(links=(), widths=(2, 3, 4), **kwargs):
    torch.manual_seed(0)
    values = dict(student=classifier(depth=14, widths=widths), data_preprocessor=preprocessor())
    if links:
        values['teacher'] = classifier(depth=14)
    algorithm = MODELS.build(dict(type='SingleTeacherDistill', links=links, **(values | kwargs)))
    algorithm.begin_stage(Stage('train', iters=1))
    algorithm.train()
    return algorithm


def double(algorithm):
    return copy.deepcopy(algorithm.student).double(), copy.deepcopy(algorithm.teacher).double()


@torch.no_grad()
def test_labels_alone(images, labels):
    """Back propagation: cross entropy and nothing else."""
    algorithm = distil()
    s = copy.deepcopy(algorithm.student).double()(images.double())
    expected = (s.exp().sum(1).log() - s.gather(1, labels[:, None])[:, 0]).mean().item()
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert list(losses) == ['loss_task'] and losses['loss_task'].item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_links_on_logits_and_inner_taps(images, labels):
    """The paper's KD is the first link with the task loss (Eq. 2); an inner tap may need a connector."""
    algorithm = distil([LOGITS, INNER])
    student, teacher = double(algorithm)
    x = images.double()
    inner = copy.deepcopy(algorithm.links[1].connector).double()(forward(student, x, 'backbone.layer2.1'))
    student, _ = double(algorithm)  # the pass above moved the running statistics, which training does not read
    expected = [
        (forward(student, x, None) - forward(teacher, x, None)).square().mean().item(),
        2 * (inner - forward(teacher, x, 'backbone.layer2.1')).square().mean().item(),
    ]
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert list(losses) == ['loss_task', 'loss_link0', 'loss_link1']
    assert [losses[f'loss_link{i}'].item() for i in (0, 1)] == pytest.approx(expected, rel=1e-5)


def test_everything_of_the_student_trains_and_nothing_of_the_teacher(images, labels):
    algorithm = distil([LOGITS, INNER])
    before = {name: value.clone() for name, value in algorithm.teacher.state_dict().items()}
    sum(algorithm.loss(images, dict(gt_label=labels)).values()).backward()
    assert all(parameter.grad is not None for parameter in algorithm.parameters())
    assert any(name.startswith('links.1.connector') for name, _ in algorithm.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in algorithm.teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in algorithm.teacher.parameters())


def test_hooks_are_removed(images, labels):
    """A step leaves no hook behind, also when its loss fails."""
    algorithm = distil([INNER])
    algorithm.loss(images, dict(gt_label=labels))
    with pytest.raises(RuntimeError):
        algorithm.loss(images[:, :, :1, :1].expand(-1, 3, -1, -1), dict(gt_label=labels))
    assert not any(module._forward_hooks for net in (algorithm.student, algorithm.teacher) for module in net.modules())


class Half(nn.Module):
    """Has a module that it calls twice and one that it never calls."""

    def __init__(self):
        super().__init__()
        self.twice, self.never, self.fc = nn.Identity(), nn.Identity(), nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.twice(self.twice(x.flatten(1))))


def test_wrong_links(images, labels):
    with pytest.raises(KeyError, match="no module 'backbone.layer2.7' .nearest: .*backbone.layer2.[01]"):
        distil([INNER | dict(student='backbone.layer2.7')])
    with pytest.raises(KeyError, match="no module 'backbone.layer5'"):
        distil([INNER | dict(teacher='backbone.layer5')])
    with pytest.raises(KeyError, match="'MSELos' is not registered .*nearest: MSELoss"):
        distil([LOGITS | dict(loss=dict(type='MSELos'))])
    with pytest.raises(ValueError, match='1 link.s. but no teacher'):
        distil([LOGITS], teacher=None)
    with pytest.raises(ValueError, match='neither links nor a task_loss'):
        distil(task_loss=None)
    with pytest.raises(ValueError, match=r'MSELoss cannot compare student .*\(3, 4, 4\) against teacher .*\(6, 4, 4\)'):
        distil([INNER | dict(connector=None)])
    for tap, message in (('never', 'is never read'), ('twice', 'is read 2 times')):
        with pytest.raises(ValueError, match=f"student tap '{tap}' {message}"):
            distil([LOGITS | dict(student=tap)], student=Half())
    with pytest.raises(ValueError, match='the student has 10 classes, the teacher 7'):
        distil([LOGITS], teacher=classifier(depth=14, classes=7))
    with pytest.raises(ValueError, match="two links are called 'loss_a': names must differ"):
        distil([LOGITS | dict(name='a'), INNER | dict(name='a')])
    with pytest.raises(ValueError, match='taps is dict.student=dict.name=tap., teacher='):
        distil([LOGITS], taps=dict(studnt=dict(a='head')))
    with pytest.raises(ValueError, match="no link uses the connector 'spare'"):
        distil([LOGITS], connectors=dict(spare=dict(type='ConvModuleConnector')))
    with pytest.raises(ValueError, match='connectors without links'):
        distil(connectors=dict(spare=dict(type='ConvModuleConnector')))
    with pytest.raises(ValueError, match='teacher_input without a teacher'):
        distil(teacher_input=dict(size=4))


def test_no_task_loss(images):
    """Links alone need no labels."""
    losses = distil([LOGITS], task_loss=None).loss(images, None)
    assert list(losses) == ['loss_link0']


def test_a_student_from_a_config_begins_as_its_library_begins():
    algorithm = distil()  # mmpretrain's head: normal with deviation 0.01, PyTorch's would be uniform up to 0.5
    weight = algorithm.student.head.fc.weight
    assert 0 < weight.std() < 0.02 and not algorithm.student.head.fc.bias.any()
    network = build_network(classifier())
    before = network.head.fc.weight.clone()
    assert torch.equal(distil(student=network).student.head.fc.weight, before)


def test_stages():
    algorithm = distil()
    with pytest.raises(ValueError, match="SingleTeacherDistill has no stage 'recast'"):
        algorithm.expand([Stage('recast', iters=1)])
    with pytest.raises(ValueError, match='train: its length must be at least 1, got 0'):
        algorithm.expand([Stage('train', epochs=0)])
    assert [s.iters for s in algorithm.expand([Stage('train', iters=3), Stage('train', iters=4)])] == [3, 4]


def test_the_student_may_be_of_another_class(images, labels):
    algorithm = distil([dict(student='fc', teacher='head.fc', loss=dict(type='MSELoss'))], student=Half())
    s, t = algorithm.student(images), algorithm.teacher(images)
    expected = (s - t).square().mean().item()
    assert algorithm.loss(images, dict(gt_label=labels))['loss_link0'].item() == pytest.approx(expected, rel=1e-5)
    assert build_network(algorithm.student) is algorithm.student and CHAIN[0] in dict(algorithm.teacher.named_modules())


# ---- two phases -----------------------------------------------------------------------------------------------------


@MODELS.register_module(name='AutoencoderForTests')
class Autoencoder(nn.Module):
    """Maps to half of the channels, and back."""

    def __init__(self, in_channel):
        super().__init__()
        self.down, self.up = nn.Conv2d(in_channel, in_channel // 2, 1), nn.Conv2d(in_channel // 2, in_channel, 1)
        self.norm = nn.BatchNorm2d(in_channel // 2)

    def forward(self, x):
        return self.norm(self.down(x))

    def reconstruct(self, x):
        return self.up(self(x))


FACTORS = [
    dict(teacher='last', teacher_connector='coder', loss=dict(type='MSELoss'), stage='pretrain', name='code'),
    dict(student='last', teacher='last', teacher_connector='coder', loss=dict(type='MSELoss'),
         connector=dict(type='ConvModuleConnector', act_cfg=None)),
]  # fmt: skip
TAPS = {side: dict(last='backbone.layer3') for side in ('student', 'teacher')}
CODER = dict(coder=dict(type='AutoencoderForTests'))
HINT = dict(
    student='backbone.layer2', teacher='backbone.layer2', loss=dict(type='MSELoss'), stage='pretrain',
    connector=dict(type='ConvModuleConnector', act_cfg=None),
)  # fmt: skip


def begin(algorithm, kind):
    algorithm.begin_stage(Stage(kind, iters=1))
    algorithm.train()
    return algorithm


def training(algorithm):
    return {name for name, parameter in algorithm.named_parameters() if parameter.requires_grad}


def below(algorithm, *prefixes):
    return {name for name, _ in algorithm.named_parameters() if name.startswith(prefixes)}


def check_gradients(algorithm, images, labels):
    """Gradients reach exactly what trains, and nothing of the teacher."""
    for parameter in algorithm.parameters():
        parameter.grad = None
    losses = algorithm.loss(images, dict(gt_label=labels, sample_idx=torch.arange(len(labels))))
    sum(losses.values()).backward()
    assert {n for n, p in algorithm.named_parameters() if p.grad is not None} == training(algorithm)
    assert all(p.grad is None for p in algorithm.teacher.parameters())
    return losses


def test_a_connector_is_pretrained_on_the_teacher_alone_and_then_stays(images, labels):
    algorithm = begin(distil(FACTORS, connectors=CODER, taps=TAPS), 'pretrain')
    losses = check_gradients(algorithm, images, labels)
    assert list(losses) == ['loss_code'] and training(algorithm) == below(algorithm, 'connectors.coder')
    t = algorithm.teacher.double().backbone(images.double())[0]
    coder = copy.deepcopy(algorithm.connectors.coder).double()
    expected = (coder.up(coder.norm(coder.down(t))) - t).square().mean().item()
    assert losses['loss_code'].item() == pytest.approx(expected, rel=1e-4)
    algorithm.teacher.float()

    begin(algorithm, 'train')
    before = {n: v.clone() for n, v in algorithm.connectors.state_dict().items()}
    losses = check_gradients(algorithm, images, labels)
    assert list(losses) == ['loss_task', 'loss_link1']
    assert training(algorithm) == below(algorithm, 'student.', 'links.')
    assert all(torch.equal(v, before[n]) for n, v in algorithm.connectors.state_dict().items())
    assert not any(m.training for m in algorithm.connectors.modules() if m is not algorithm.connectors)


def test_a_hint_trains_the_student_no_further_than_its_tap(images, labels):
    algorithm = begin(distil([HINT, LOGITS]), 'pretrain')
    before = {n: b.clone() for n, b in algorithm.student.named_buffers()}
    called = []
    algorithm.teacher.backbone.layer3.register_forward_hook(lambda *args: called.append('teacher'))
    algorithm.student.backbone.layer3.register_forward_hook(lambda *args: called.append('student'))
    assert list(check_gradients(algorithm, images, labels)) == ['loss_link0'] and not called
    front = below(algorithm, *[f'student.backbone.{name}' for name in ('conv1', 'bn1', 'layer1', 'layer2')])
    assert training(algorithm) == front | below(algorithm, 'links.0.connector')
    changed = {n for n, b in algorithm.student.named_buffers() if not torch.equal(b, before[n])}
    assert changed and not any('layer3' in name for name in changed)
    begin(algorithm, 'train')
    assert list(check_gradients(algorithm, images, labels)) == ['loss_task', 'loss_link1']
    assert training(algorithm) == below(algorithm, 'student.')


def test_a_schedule_must_have_the_stages_of_the_links(tmp_path):
    pretrain, train = Stage('pretrain', iters=1), Stage('train', iters=1)
    algorithm = distil(FACTORS, connectors=CODER, taps=TAPS)
    assert algorithm.expand([pretrain, train]) == [pretrain, train]
    message = r"link code is of stage 'pretrain', which the schedule lacks.*connectors=dict\(coder=dict\(…, pretrained="
    with pytest.raises(ValueError, match=message):
        algorithm.expand([train])
    with pytest.raises(ValueError, match='the order of stages is pretrain, train, got train, pretrain'):
        algorithm.expand([train, pretrain])
    with pytest.raises(ValueError, match="a stage 'pretrain' without a link of that stage"):
        distil([LOGITS]).expand([pretrain, train])
    hint = distil([HINT])
    hint.task_loss = None
    with pytest.raises(ValueError, match="a stage 'train' without a link of that stage and without task_loss"):
        hint.expand([pretrain, train])
    with pytest.raises(ValueError, match="stage 'train' trains nothing: its losses reach no parameter"):
        hint.begin_stage(train)
    with pytest.raises(ValueError, match="link 0 is of stage 'pretrain', which the schedule lacks: add dict"):
        distil([HINT, LOGITS]).expand([train])


def test_what_a_pretrain_stage_leaves_serves_another_run(tmp_path, images, labels):
    algorithm = distil(FACTORS, connectors=CODER, taps=TAPS)
    with torch.no_grad():
        algorithm.connectors.coder.down.weight.normal_()
    products = algorithm.stage_products(Stage('pretrain', iters=1))
    assert list(products) == ['coder.pth'] and algorithm.stage_products(Stage('train', iters=1)) == {}
    path = tmp_path / 'coder.pth'
    save_file(products['coder.pth'], path)
    loaded = dict(coder=dict(CODER['coder'], pretrained=str(path)))
    again = distil(FACTORS, connectors=loaded, taps=TAPS)
    assert torch.equal(again.connectors.coder.down.weight, algorithm.connectors.coder.down.weight)
    train = Stage('train', iters=1)
    assert again.expand([train]) == [train]

    with pytest.raises(ValueError, match="connector 'coder': .*coder.pth was trained on another teacher"):
        distil(FACTORS, connectors=loaded, taps=TAPS, teacher=classifier(depth=14, widths=(4, 6, 10)))
    save_file(dict(weights={}), path)
    with pytest.raises(ValueError, match='is no file of a connector'):
        distil(FACTORS, connectors=loaded, taps=TAPS)
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*coder.pth'):
        path.unlink()
        distil(FACTORS, connectors=loaded, taps=TAPS)


# ---- other inputs, other teachers, other data -----------------------------------------------------------------------


def test_a_teacher_may_see_the_images_in_its_own_way(images, labels):
    algorithm = distil([LOGITS], teacher_input=dict(mean=[100.0], std=[50.0], size=12))
    raw = images * 95.9 + 77.9
    seen = nn.functional.interpolate((raw - 100) / 50, (12, 12), mode='bilinear', antialias=True)
    expected = (algorithm.student(images) - algorithm.teacher(seen)).square().mean().item()
    assert algorithm.loss(images, dict(gt_label=labels))['loss_link0'].item() == pytest.approx(expected, rel=1e-4)


def test_several_teachers(images, labels):
    """Links may read each of them, and the weighted mean of their logits."""
    teachers = dict(
        a=dict(network=classifier(depth=8), weight=3), b=dict(network=classifier(depth=14), input=dict(size=4))
    )
    links = [
        LOGITS, dict(student='logits', teacher='b', loss=dict(type='MSELoss'), name='b'),
        dict(student='backbone.layer3', teacher='a.backbone.layer3', loss=dict(type='MSELoss'), name='map'),
    ]  # fmt: skip
    algorithm = distil(links, teacher=dict(type='TeacherEnsemble', teachers=teachers), widths=(4, 6, 8))
    a, b = algorithm.teacher.a, algorithm.teacher.b
    small = nn.functional.interpolate(images, (4, 4), mode='bilinear', antialias=True)
    s = algorithm.student(images)
    expected = [(s - (0.75 * a(images) + 0.25 * b(small))).square().mean(), (s - b(small)).square().mean()]
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert list(losses) == ['loss_task', 'loss_link0', 'loss_b', 'loss_map']
    assert losses['loss_link0'].item() == pytest.approx(expected[0].item(), rel=1e-4)
    assert losses['loss_b'].item() == pytest.approx(expected[1].item(), rel=1e-4)
    assert algorithm.teacher_constructor['type'] == 'TeacherEnsemble'


def test_a_teacher_of_other_classes_may_teach_features():
    feature = dict(student='backbone.layer3', teacher='backbone.layer3', loss=dict(type='MSELoss'))
    algorithm = distil([feature], teacher=classifier(depth=14, classes=7), widths=(2, 3, 8))
    algorithm.check_classes(10)
    with pytest.raises(ValueError, match='the student has 10 classes but the data set has 4'):
        algorithm.check_classes(4)
    with pytest.raises(ValueError, match='the teacher has 10 classes but the data set has 7'):
        distil([LOGITS], student=classifier(classes=10)).check_classes(7)


@MODELS.register_module(name='IndexedForTests')
class Indexed(nn.Module):
    """A loss that needs sample numbers and knows how many there may be."""

    def forward(self, s_feature, t_feature, sample_idx):
        return (s_feature - t_feature).square().mean() * sample_idx.max()

    def check_dataset(self, num_images):
        if num_images > 50:
            raise ValueError(f'no room for {num_images} images')


def test_losses_that_need_sample_numbers(images, labels):
    algorithm = distil([LOGITS | dict(loss=dict(type='IndexedForTests'))])
    algorithm.check_training_data(range(50), dict(gt_label=labels, sample_idx=labels))
    with pytest.raises(ValueError, match='no room for 51 images'):
        algorithm.check_training_data(range(51), dict(sample_idx=labels))
    for samples in (dict(gt_label=labels, sample_idx=None), None):
        with pytest.raises(
            ValueError, match='link 0: Indexed needs sample_idx, which the training data do not give: use'
        ):
            algorithm.check_training_data(range(50), samples)


def test_a_weight_may_grow(images, labels):
    algorithm = distil([LOGITS | dict(warmup=0.5), LOGITS | dict(name='full')])
    values = {}
    for progress in (0.1, 0.4, 0.5, 1.0):
        algorithm.progress = progress
        losses = algorithm.loss(images, dict(gt_label=labels))
        values[progress] = (losses['loss_link0'] / losses['loss_full']).item()
    assert values == pytest.approx({0.1: 0.2, 0.4: 0.8, 0.5: 1.0, 1.0: 1.0})


def test_a_link_on_labels_alone_needs_no_teacher(images, labels):
    exit_ = dict(student='logits', loss=dict(type='CrossEntropyLoss', loss_weight=0.5), name='exit')
    losses = distil([exit_], teacher=None).loss(images, dict(gt_label=labels))
    assert losses['loss_exit'].item() == pytest.approx(losses['loss_task'].item() / 2)


@MODELS.register_module(name='UnlikeForTests')
class Unlike(nn.Module):
    """Returns what a loss must not."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, s_feature, t_feature):
        value = (s_feature - t_feature).square().mean(1)
        return dict(map=value, number=value.mean().item(), apart=value.mean().detach())[self.how]


@pytest.mark.parametrize(
    ('how', 'given'),
    [('map', r'a tensor of shape \(4,\)'), ('number', 'float'), ('apart', r'a tensor of shape \(\)')],
)
def test_what_a_loss_must_return(how, given):
    with pytest.raises(ValueError, match=f'loss_link0 must be a scalar tensor with .* its loss gives {given}'):
        distil([LOGITS | dict(loss=dict(type='UnlikeForTests', how=how))])
