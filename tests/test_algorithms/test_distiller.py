"""The teacher of an algorithm, its modes, and what an algorithm checks."""

import pytest
import torch
from tiny import CHAIN, classifier, preprocessor, recasting
from torch import nn

from mmrecast.models import build_network
from mmrecast.registry import MODELS
from mmrecast.stages import Stage


def test_teacher_is_no_part_of_the_module(algorithm_at):
    algorithm = algorithm_at(CHAIN[0])
    own = {id(tensor) for tensor in [*algorithm.teacher.parameters(), *algorithm.teacher.buffers()]}
    assert own and not own & {id(tensor) for tensor in [*algorithm.parameters(), *algorithm.buffers()]}
    assert not any('teacher' in name for name in algorithm.state_dict())
    assert algorithm.teacher not in list(algorithm.modules())
    assert not any(parameter.requires_grad for parameter in algorithm.teacher.parameters())


def test_teacher_stays_in_eval_mode(algorithm_at):
    algorithm = algorithm_at(None)
    for mode in (True, False, True):
        algorithm.train(mode)
        assert not any(module.training for module in algorithm.teacher.modules())
        assert all(module.training == mode for module in algorithm.student.modules())


def test_teacher_moves_with_the_algorithm(algorithm_at):
    algorithm = algorithm_at(None).to(torch.float64)
    assert {tensor.dtype for tensor in algorithm.teacher.parameters()} == {torch.float64}
    algorithm.to('meta')
    assert {tensor.device.type for tensor in [*algorithm.teacher.parameters(), *algorithm.teacher.buffers()]} == {
        'meta'
    }


def test_recasting_needs_no_labels(algorithm_at):
    algorithm = algorithm_at(CHAIN[1])
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    data = algorithm.data_preprocessor(dict(inputs=images), True)
    assert data['data_samples']['gt_label'] is None
    assert algorithm(**data, mode='loss')['loss_block'].requires_grad


def test_modes(algorithm_at, images):
    algorithm = algorithm_at(None).eval()
    logits = algorithm(images)
    assert torch.equal(logits, algorithm.student(images))
    samples = algorithm(images, dict(gt_label=torch.arange(12) % 10), mode='predict')
    assert torch.equal(torch.stack([sample.pred_score for sample in samples]), logits.softmax(1))
    assert [sample.gt_label.item() for sample in samples] == [i % 10 for i in range(12)]
    assert [sample.pred_label.item() for sample in samples] == logits.argmax(1).tolist()
    with algorithm.judging(algorithm.teacher):
        judged = algorithm(images, None, mode='predict')
    assert torch.equal(torch.stack([sample.pred_score for sample in judged]), algorithm.teacher(images).softmax(1))
    with pytest.raises(ValueError, match="mode must be 'tensor', 'loss' or 'predict', got 'train'"):
        algorithm(images, mode='train')


def test_classes_and_labels_are_checked(algorithm_at):
    algorithm = algorithm_at(None)
    algorithm.check_classes(10)
    algorithm.check_labels(torch.tensor([0, 9]))
    with pytest.raises(ValueError, match='the teacher has 10 classes but the data set has 12'):
        algorithm.check_classes(12)
    for label in (10, -1):
        with pytest.raises(ValueError, match=f'label {label} is outside the 10 classes'):
            algorithm.check_labels(torch.tensor([3, label]))


def test_teacher_as_an_object_keeps_its_weights(trained_teacher):
    network = build_network(classifier())
    network.load_state_dict(torch.load(trained_teacher))
    algorithm = MODELS.build(recasting(network))
    assert algorithm.teacher is network and algorithm.origin.constructor is None
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(algorithm.student.eval()(images), network(images))


def test_wrong_teachers(tmp_path):
    with pytest.raises(ValueError, match="teacher_ckpt='x.pth' without a teacher"):
        MODELS.build(dict(type='SingleTeacherDistill', student=classifier(), teacher_ckpt='x.pth'))
    named = classifier(init_cfg=dict(type='Pretrained', checkpoint='resnet.pth'))
    with pytest.raises(ValueError, match='init_cfg of type Pretrained is not read: give the file as teacher_ckpt'):
        MODELS.build(recasting(named))
    with pytest.raises(ValueError, match='Recasting needs a teacher'):
        MODELS.build(recasting() | dict(teacher=None))
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*absent.pth'):
        MODELS.build(recasting(teacher_ckpt=str(tmp_path / 'absent.pth')))
    torch.save(build_network(classifier(widths=(4, 6, 9))).state_dict(), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='other.pth'):
        MODELS.build(recasting(teacher_ckpt=str(tmp_path / 'other.pth')))
    with pytest.raises(ValueError, match='input shape is not known'):
        MODELS.build(recasting() | dict(data_preprocessor=None))


@pytest.mark.parametrize('teacher_network', [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()])
def test_train_from_scratch_has_no_teacher(teacher_network):
    algorithm = MODELS.build(
        dict(type='SingleTeacherDistill', student=teacher_network, data_preprocessor=preprocessor())
    )
    assert algorithm.teacher is None
    algorithm.begin_stage(Stage('train', iters=1))
    algorithm.train()
    algorithm.to(torch.float64)
    assert algorithm.fingerprint()['recipe'] is None
