import pytest
import torch
from torch import nn

from mmrecast.links.link import Link

MSE = dict(type='MSELoss')


def networks():
    """Return a student and a teacher with a ReLU in place behind the first layer."""
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    teacher = nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace=True), nn.Linear(5, 2))
    return student, teacher


def read(links, student, teacher, x):
    with torch.no_grad(), Link.reading(links, 'teacher'):
        t_logits = teacher(x)
    with Link.reading(links, 'student'):
        s_logits = student(x)
    return s_logits, t_logits


def test_logits_are_compared():
    student, teacher = networks()
    link = Link(student, teacher, 'logits', 'logits', MSE)
    s, t = read([link], student, teacher, torch.randn(6, 3))
    assert link(s, t).item() == pytest.approx(((s - t) ** 2).mean().item())


def test_taps_give_what_their_module_gave_before_anything_worked_on_it_in_place():
    student, teacher = networks()
    teacher_connector = nn.Linear(5, 4)
    link = Link(student, teacher, '0', '0', MSE)
    link.teacher_connector = teacher_connector
    x = torch.randn(6, 3)
    expected = ((student[0](x) - teacher_connector(teacher[0](x))) ** 2).mean()
    loss = link(*read([link], student, teacher, x))
    assert loss.item() == pytest.approx(expected.item())
    grads = torch.autograd.grad(loss, student[0].weight)[0], torch.autograd.grad(expected, student[0].weight)[0]
    torch.testing.assert_close(*grads)
    assert not any(m._forward_hooks for net in (student, teacher) for m in net.modules())


def test_connectors_belong_to_the_link_and_networks_do_not():
    student, teacher = nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Sequential(nn.Conv2d(3, 6, 1))
    connector = dict(type='ConvModuleConnector', in_channel=4, out_channel=6, act_cfg=None)
    link = Link(student, teacher, '0', '0', MSE, connector=connector)
    assert {name.split('.')[0] for name, _ in link.named_parameters()} == {'connector'}
    x = torch.randn(2, 3, 4, 4)
    conv = link.connector.conv_module.conv
    expected = ((conv(student[0](x)) - teacher[0](x)) ** 2).mean()
    assert link(*read([link], student, teacher, x)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_tap_must_be_read_once_and_is_emptied():
    student, teacher = networks()
    link = Link(student, teacher, '0', '0', MSE)
    read([link], student, student, torch.randn(2, 3))
    with pytest.raises(ValueError, match="teacher tap '0' was read 0 times in one forward pass, not once"):
        link(torch.zeros(1), torch.zeros(1))
    twice = nn.Sequential(teacher[2], nn.Linear(2, 5), teacher[2])
    link = Link(twice, teacher, '0', '0', MSE)
    with Link.reading([link], 'student'):
        twice(torch.randn(2, 5))
    with pytest.raises(ValueError, match="student tap '0' was read 2 times"):
        link(torch.zeros(1), torch.zeros(1))


def test_hooks_are_gone_after_an_error():
    student, teacher = networks()
    link = Link(student, teacher, '0', '2', MSE)
    with pytest.raises(RuntimeError), Link.reading([link], 'student'):
        student(torch.randn(2, 99))
    assert not any(m._forward_hooks for m in student.modules())


def test_mistakes_show_when_the_link_is_built():
    student, teacher = networks()
    with pytest.raises(KeyError, match=r"Sequential has no module '7' \(nearest: 0, 1, 2\)"):
        Link(student, teacher, '7', '0', MSE)
    with pytest.raises(KeyError, match="'MSELos' is not registered.*nearest: MSELoss"):
        Link(student, teacher, '0', '0', dict(type='MSELos'))
