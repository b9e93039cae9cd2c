import json
import re
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image

from mmrecast.models import build_network, untrained
from mmrecast.surgery.apply import replay
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.student_file import Origin, save_student

TOOL = Path(__file__).parents[2] / 'tools' / 'visualization' / 'browse_filters.py'
RECIPE = [dict(source='backbone.layer1.*', target='ConvBlock')]
WIDTHS = (8, 8, 8)
ALONE = 'student alone: the teacher has no trained weights without --teacher-ckpt FILE\n'


def planted(network):
    """Let filter 3 repeat filter 1, filter 5 be dead and filter 6 the weak sum of two others; BatchNorms as new."""
    weight = network.backbone.conv1.weight.data
    weight.normal_(generator=torch.Generator().manual_seed(0))
    weight[3] = -0.5 * weight[1]
    weight[6] = 0.3 * weight[0] + 0.3 * weight[2]
    network.backbone.bn1.weight.data[5:7] = torch.tensor([0.01, 0.5])
    return network


@pytest.fixture
def browse(call, monkeypatch, tmp_path):
    """Run the tool in this process in a folder of its own: (exit status, output, error)."""
    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture
def files(tmp_path):
    """Return a folder with a teacher, and its student, whose filters are all different."""
    constructor = untrained(tiny.classifier(widths=WIDTHS))
    torch.save(planted(build_network(constructor)).state_dict(), tmp_path / 'teacher.pth')
    network = build_network(constructor)
    plan = make_plan(network, RECIPE, tiny.SHAPE)
    student = replay(network, plan)
    student.backbone.conv1.weight.data = torch.eye(9)[:8].view(8, 1, 3, 3).clone()
    save_student(tmp_path / 'student.pth', student, Origin(constructor, plan))
    return tmp_path


@pytest.fixture
def config(files, quick):
    model = tiny.recasting(tiny.classifier(widths=WIDTHS), recipe=RECIPE, teacher_ckpt=str(files / 'teacher.pth'))
    cfg = tiny.config(model, [])
    cfg.dump(files / 'c.py')
    return files / 'c.py'


def verdicts(found):
    return [filter_['verdict'] for filter_ in found['filters']]


def test_a_student_beside_its_teacher(browse, files):
    status, text, error = browse('student.pth', '--teacher-ckpt', 'teacher.pth', '--json')
    assert (status, error) == (0, '')
    found = json.loads(text)
    teacher, student = found['networks']['teacher'], found['networks']['student']
    assert (teacher['layer'], teacher['shape']) == ('backbone.conv1', [8, 1, 3, 3])
    assert verdicts(teacher) == ['kept', 'kept', 'kept', 'similar', 'kept', 'ineffectual', 'combination', 'kept']
    assert teacher['filters'][3]['like'] == 1
    assert teacher['filters'][5]['strength'] == pytest.approx(0.01)
    assert teacher['counts'] == dict(kept=5, similar=1, combination=1, ineffectual=1)
    assert verdicts(student) == ['kept'] * 8
    assert found['criteria'] | dict(text=0) == dict(text=0, ineffectual=0.2, similarity=0.9, r2=0.95, images=0)
    with Image.open(files / found['figure']) as image:
        colours = set(image.convert('RGB').get_flattened_data())
    assert image.width > image.height > 300
    assert {(0xD9, 0x5F, 0x02), (0x75, 0x70, 0xB3)} <= colours  # the frames of the redundant ones
    status, text, _ = browse('student.pth', '--teacher-ckpt', 'teacher.pth', '--out', 'a/b.svg', '--ineffectual', 0)
    assert text.startswith(
        'teacher backbone.conv1: 8 filters 1×3×3: 6 kept, 1 similar (3 ≈ 1), 1 combination (6 Σ 1.00)\n'
        'student backbone.conv1: 8 filters 1×3×3: 8 kept\n'
    )
    svg = re.sub(r'\s+', ' ', (files / 'a/b.svg').read_text())
    for words in ('3 ≈ 1', '6 Σ 1.00', '8 filters: 0 ineffectual, 2 redundant', '× ineffectual: deviation by its Bat'):
        assert words in svg


def test_pictures_are_scaled_alike(tool):
    kernel = torch.tensor([[0.0, -2.0], [1.0, 0.0]])
    expected = torch.tensor([[0.5, 0.0], [0.75, 0.5]])
    for scale in (1.0, 0.01):
        torch.testing.assert_close(tool.picture(scale * kernel[None]), expected[..., None].expand(2, 2, 3))
    assert tool.picture(torch.zeros(3, 2, 2)).unique().tolist() == [0.5]
    colour = tool.picture(torch.stack([kernel, 0 * kernel, -kernel]))
    assert colour[0, 1].tolist() == [0, 0.5, 1]


def test_a_config_with_its_teacher_checkpoint(browse, config):
    status, text, _ = browse(config, '--json', '--student', 'student.pth')
    networks = json.loads(text)['networks']
    assert status == 0 and list(networks) == ['teacher', 'student']
    assert networks['teacher']['counts']['kept'] == 5
    status, text, _ = browse(config, '--json', '--untrained')
    assert list(json.loads(text)['networks']) == ['teacher']
    assert json.loads(text)['networks']['teacher']['counts']['similar'] == 0


def test_responses_to_images(browse, config):
    status, text, _ = browse(config, '--images', 20, '--json')
    found = json.loads(text)
    filters = found['networks']['teacher']['filters']
    assert status == 0 and found['criteria']['images'] == 20
    assert found['criteria']['text'][0] == '× ineffectual: deviation over 20 images ≤ 0.2 of the median'
    assert (filters[5]['verdict'], filters[3]['verdict'], filters[3]['like']) == ('ineffectual', 'similar', 1)
    without = json.loads(browse(config, '--json')[1])['networks']['teacher']['filters']
    assert [f['strength'] for f in filters] != [f['strength'] for f in without]
    assert [f['strength'] for f in without[:5]] == pytest.approx([1.0] * 5)  # the BatchNorm's statistics are ones


def test_a_student_alone(browse, files):
    status, text, error = browse('student.pth')
    assert status == 0 and text.startswith('student backbone.conv1: 8 filters')
    assert error == ALONE
    assert browse('student.pth', '--untrained')[1].startswith('teacher backbone.conv1: 8 filters')


def test_weights_of_a_library(browse, tmp_path):
    network = build_network(dict(type='TorchvisionClassifier', name='squeezenet1_1'))
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    status, text, _ = browse('torchvision:squeezenet1_1', '--teacher-ckpt', 'weights.pth', '--r2', 0.9999)
    assert status == 0 and text.startswith(
        'teacher features.0: 64 filters 3×3×3: 27 kept'
    )  # as many as they have dimensions
    (tmp_path / 'c.py').write_text(
        "model = dict(type='Recasting', teacher=dict(type='TorchvisionClassifier', name='squeezenet1_1', "
        "weights='weights.pth'))"
    )
    assert browse('c.py', '--r2', 0.9999)[1] == text


def test_mistakes_of_a_student_file(browse, files):
    torch.save(dict(a=torch.zeros(1)), files / 'other.pth')
    for args, message in [
        (['student.pth', '--student', 'student.pth'], 'error: --student and --cfg-options go with a config, not with'),
        (['student.pth', '--teacher-ckpt', 'other.pth'], 'error: other.pth does not fit ImageClassifier: '),
        (['student.pth', '--layer', 'backbone.layer1'], "error: 'backbone.layer1.0.conv' of the student reads 8 chann"),
        (['student.pth', '--layer', 'backbone.layer7'], "error: ImageClassifier has no module 'backbone.layer7' (near"),
        (['student.pth', '--images', 3], 'error: --images needs a config, whose validation data are read: give CONFIG'),
        (['student.pth', '--r2', 0], 'error: r2 must be above 0 and at most 1, got 0.0\n'),
        (['other.pth'], 'error: other.pth is not a student file'),
    ]:
        status, text, error = browse(*args)
        assert (status, text) == (2, ''), args
        assert error.removeprefix(ALONE).count('\n') == 1 and error.removeprefix(ALONE).startswith(message), error


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (
            ['torchvision:alexnet'],
            'error: torchvision:alexnet: no trained weights: give --teacher-ckpt or --student FI',
        ),
        (
            ['torchvision:alexnet', '--teacher-ckpt', 'IMAGENET'],
            "error: alexnet has no weights 'IMAGENET' (nearest: IMA",
        ),
        (['torchvision:alexnet', '--out', 'a.gif'], "error: --out must end in one of .png, .svg, .pdf, got 'a.gif'\n"),
        (['torchvision:alexnet', '--images', -1], 'error: --images must be at least 0, got -1\n'),
        (
            ['torchvision:alexnet', '--untrained', '--teacher-ckpt', 'a.pth'],
            'error: --untrained shows the teacher with',
        ),
        (['torchvision:alexnet', '--cfg-options', 'a=1'], 'error: --cfg-options needs a config file, not the name'),
        (['nothing.py'], 'error: there is no config file nothing.py'),
        (['nothing.pth'], 'error: no checkpoint at nothing.pth\n'),
    ],
)
def test_mistakes(browse, args, message):
    status, text, error = browse(*args)
    assert (status, text, error.count('\n')) == (2, '', 1) and error.startswith(message), error
