import copy
import subprocess
import sys

import pytest
import torch

from mmrecast.models import build_network, untrained
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.plan import Plan, make_plan
from mmrecast.surgery.student_file import (
    FORMAT,
    Origin,
    build_source,
    is_student,
    load_student,
    read_student,
    save_student,
)
from mmrecast.surgery.widths import LayerWidths, Widths, narrow, widths_of

RECIPE = [
    dict(source=['backbone.layer1.1', 'backbone.layer2.0'], target=dict(type='ConvBlock')),
    dict(source='backbone.layer3.*', target=dict(type='DepthwiseSeparable', width_ratio=0.5)),
]
FRESH = """
import sys
import torch
torch.set_num_threads(1)
import mmrecast
from mmrecast.models import build_network
from mmrecast.surgery.student_file import load_student
path, images, constructor, out = sys.argv[1:]
student = load_student(path)
by_object = load_student(path.replace('config', 'object'), model=build_network(torch.load(constructor)))
x = torch.load(images)
with torch.no_grad():
    torch.save([student(x), by_object(x), torch.equal(torch.tensor(student.training), torch.tensor(False))], out)
"""


@pytest.fixture
def constructor(toys):
    return toys.cifar(29, 'bottleneck', 'A', widths=(4, 8, 16))


@pytest.fixture
def student(constructor):
    """A student with random statistics, and its plan."""
    torch.manual_seed(0)
    net = build_network(constructor)
    plan = make_plan(net, RECIPE, (3, 16, 16))
    student = check_plan(net, plan)
    student.train()(torch.randn(8, 3, 16, 16))
    return student.eval(), plan


@pytest.fixture
def content(student, constructor, tmp_path):
    """What a student file holds, and where to write a changed one."""
    path = tmp_path / 'student.pth'
    save_student(path, student[0], Origin(constructor, student[1]), dict(top1=50.0))

    def write(**changes):
        torch.save(torch.load(path, weights_only=True) | changes, tmp_path / 'changed.pth')
        return tmp_path / 'changed.pth'

    return write


def test_a_student_file_is_plain_data(student, constructor, tmp_path):
    path = tmp_path / 'student.pth'
    pretrained = constructor | dict(init_cfg=dict(type='Pretrained', checkpoint='https://example.org/x.pth'))
    save_student(path, student[0], Origin(pretrained, student[1]), dict(top1=50.0))
    content = torch.load(path, weights_only=True)
    assert is_student(content) and not is_student(content['weights']) and not is_student(None)
    assert content['constructor'] == untrained(constructor) and content['meta']['top1'] == 50
    assert Plan.from_dict(content['plan']) == student[1]


def test_load_gives_back_the_student(student, content):
    loaded = load_student(content())
    assert not loaded.training and all(p.requires_grad for p in loaded.parameters())
    first, second = student[0].state_dict(), loaded.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(v, second[k]) for k, v in first.items())


def test_the_same_outputs_in_a_fresh_process(student, constructor, tmp_path):
    network, plan = student
    save_student(tmp_path / 'config.pth', network, Origin(constructor, plan))
    save_student(tmp_path / 'object.pth', network, Origin(None, plan))
    images = torch.randn(4, 3, 16, 16)
    torch.save(images, tmp_path / 'images.pt')
    torch.save(constructor, tmp_path / 'constructor.pt')
    files = [tmp_path / name for name in ('config.pth', 'images.pt', 'constructor.pt', 'out.pt')]
    done = subprocess.run([sys.executable, '-c', FRESH, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    by_config, by_object, in_eval = torch.load(files[-1])
    with torch.no_grad():
        expected = network(images)
    assert torch.equal(by_config, expected) and torch.equal(by_object, expected) and in_eval


def test_a_network_as_it_was_built_has_no_plan(constructor, tmp_path):
    net = build_network(constructor).eval()
    save_student(tmp_path / 'x.pth', net, Origin(constructor))
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(load_student(tmp_path / 'x.pth')(x), net(x))


def test_a_student_recast_again_is_loaded_on_top_of_the_first(student, content, tmp_path):
    first, _ = student
    plan = make_plan(first, [dict(source='backbone.layer1.0', target='ConvBlock')], (3, 16, 16))
    second = check_plan(copy.deepcopy(first), plan).eval()
    save_student(tmp_path / 'second.pth', second, Origin(None, plan))
    loaded = load_student(tmp_path / 'second.pth', model=load_student(content()))
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(x), second(x))


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A package that leaves a file behind when anything of it is imported."""
    package = tmp_path / 'on_path' / 'evil_package'
    package.mkdir(parents=True)
    mark = tmp_path / 'imported'
    for name in ('__init__.py', 'registry.py'):
        (package / name).write_text(f'open({str(mark)!r}, "w").close()\n\ndef run(*args, **kwargs):\n    pass\n')
    monkeypatch.syspath_prepend(str(package.parent))
    return mark


@pytest.mark.parametrize(
    'hostile',
    [
        dict(type='evil_package.run'),
        dict(type='CifarResNet', depth=8, _scope_='evil_package'),
        dict(type='mmpretrain.ImageClassifier', backbone=dict(type='evil_package.run')),
        dict(type='os.system', command='true'),
    ],
)
def test_constructors_that_would_run_something_are_refused(content, trap, hostile):
    with pytest.raises(ValueError, match=r'constructor\S*: (unknown scope|.* is not registered)') as caught:
        load_student(content(constructor=hostile))
    assert '\n' not in str(caught.value)
    assert not trap.exists() and 'evil_package' not in sys.modules


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (dict(type='evil_package.run'), "the plan names a block 'evil_package.run' that is not registered: import its"),
        (dict(type='torch.nn.Identity'), "the plan names a block 'torch.nn.Identity' that is not registered"),
        (dict(type='CifarResNet', depth=8), "the plan names a block 'CifarResNet' that is not registered"),
        (dict(type=['ConvBlock']), r"the plan names a block \['ConvBlock'\] that is not registered"),
        (dict(), 'the plan names a block None that is not registered'),
        (dict(type='ConvBlock', _scope_='evil_package'), "unknown scope 'evil_package'"),
        (dict(type='ConvBlock', norm=dict(type='evil_package.run')), "'evil_package.run' is not registered"),
    ],
)
def test_plans_that_would_run_something_are_refused(student, content, trap, target, message):
    plan = student[1].to_dict()
    plan['entries'][1]['target'] = target
    with pytest.raises(ValueError, match=message) as caught:
        load_student(content(plan=plan))
    assert '\n' not in str(caught.value)
    assert not trap.exists() and 'evil_package' not in sys.modules


def test_files_that_are_no_students(student, content, constructor, tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*none.pth'):
        load_student(tmp_path / 'none.pth')
    torch.save(student[0].state_dict(), tmp_path / 'state.pth')
    with pytest.raises(ValueError, match='state.pth is not a student file; tools/export_student.py makes one of'):
        load_student(tmp_path / 'state.pth')
    torch.save(dict(format=FORMAT, plan=None), tmp_path / 'part.pth')
    with pytest.raises(ValueError, match='part.pth is an incomplete student file: it lacks constructor, weights'):
        load_student(tmp_path / 'part.pth')
    with pytest.raises(ValueError, match='holds no constructor .its teacher was an object.: pass the untrained model='):
        load_student(content(constructor=None))
    with pytest.raises(ValueError, match='not a recasting plan: '):
        load_student(content(plan=dict(entries=[])))
    data = content().read_bytes()
    (tmp_path / 'cut.pth').write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match='cut.pth is not a readable checkpoint'):
        load_student(tmp_path / 'cut.pth')


def test_files_that_do_not_fit(toys, student, content):
    other = build_network(toys.cifar(20, 'bottleneck', 'A', widths=(4, 8, 16)))
    with pytest.raises(ValueError, match="the plan does not fit ImageClassifier: .*no module 'backbone.layer1.2'"):
        load_student(content(), model=other)
    wide = toys.cifar(29, 'bottleneck', 'A', widths=(4, 8, 32))
    with pytest.raises(ValueError, match='the weights of .*changed.pth do not fit: .*size mismatch for') as caught:
        load_student(content(constructor=wide))
    assert '\n' not in str(caught.value)
    weights = dict(student[0].state_dict())
    weights.pop('head.fc.bias')
    with pytest.raises(ValueError, match='do not fit: .*Missing key.*head.fc.bias'):
        load_student(content(weights=weights))
    with pytest.raises(ValueError, match='do not fit: .*state_dict to be dict-like, got .*list'):
        load_student(content(weights=[1]))


# ---- narrowed students ----------------------------------------------------------------------------------------------

INNER = 'backbone.layer3.0.conv1'  # of a bottleneck: 32 → 16 channels, read by its conv2 alone
HALF = Widths(
    {
        INNER: LayerWidths(((0, 32),), ((0, 8),)),
        'backbone.layer3.0.bn1': LayerWidths(((0, 8),), ((0, 8),)),
        'backbone.layer3.0.conv2': LayerWidths(((0, 8),), ((0, 16),)),
    },
    (3, 16, 16),
)


@pytest.fixture
def narrowed(constructor, tmp_path):
    """A network with random statistics whose one inner layer was halved, its source, and its file."""
    torch.manual_seed(0)
    source = build_network(constructor)
    source.train()(torch.randn(8, 3, 16, 16))
    network = narrow(copy.deepcopy(source), HALF).eval()
    save_student(tmp_path / 'narrow.pth', network, Origin(constructor, None, HALF))
    return network, source.eval(), tmp_path / 'narrow.pth'


def halved_by_hand(source, x):
    """What the source gives when conv2 does not read the second half of what conv1 and its BN make."""
    with torch.no_grad():
        source.backbone.layer3[0].conv2.weight[:, 8:] = 0
        return source(x)


def test_a_narrowed_student_is_loaded(narrowed):
    network, source, path = narrowed
    loaded, origin = read_student(path)
    x = torch.randn(3, 3, 16, 16)
    assert loaded.get_submodule(INNER).weight.shape == (8, 32, 1, 1) and not loaded.training
    assert torch.equal(loaded(x), network(x))
    assert torch.allclose(loaded(x), halved_by_hand(source, x), atol=1e-5)
    assert (origin.plan, origin.widths) == (None, HALF)


def test_the_file_of_a_narrowed_student_is_plain_data(narrowed):
    content = torch.load(narrowed[2], weights_only=True)
    assert is_student(content) and content['plan'] is None and content['widths'] == HALF.to_dict()


def test_plan_first_then_widths(student, constructor, tmp_path):
    """The widths are those of the plan's student: its convolution stands only there."""
    network, plan = student
    path = 'backbone.layer2.0.conv'
    widths = widths_of(trace_channels(network, (3, 16, 16)), {path: 2})
    assert path in widths.layers
    before = network.get_submodule(path).out_channels
    narrow(network, widths)
    save_student(tmp_path / 'both.pth', network, Origin(constructor, plan, widths))
    loaded, origin = read_student(tmp_path / 'both.pth')
    x = torch.randn(2, 3, 16, 16)
    assert loaded.get_submodule(path).out_channels == before // 2
    assert torch.equal(loaded(x), network.eval()(x))
    assert origin == Origin(untrained(constructor), plan, widths)


def test_a_file_of_before_there_were_widths(student, content, tmp_path):
    older = torch.load(content(), weights_only=True)
    assert older.pop('widths') is None
    torch.save(older, tmp_path / 'older.pth')
    loaded, origin = read_student(tmp_path / 'older.pth')
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(x), student[0](x)) and origin.widths is None


def test_a_narrowed_student_is_a_source(narrowed):
    network, _, path = narrowed
    source, constructor = build_source(path)
    assert torch.equal(source.head.fc.weight, network.head.fc.weight)
    assert (constructor['type'], constructor['plan'], constructor['widths']) == ('RecastNetwork', None, HALF.to_dict())
    again = build_network(copy.deepcopy(constructor))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}


def test_a_source_without_widths_is_named_as_it_always_was(student, content, constructor):
    plan = student[1].to_dict()
    assert build_source(content())[1] == dict(type='RecastNetwork', source=untrained(constructor), plan=plan)


def test_a_narrowed_student_is_narrowed_again_and_recast(narrowed, tmp_path):
    network, origin = read_student(narrowed[2])
    widths = widths_of(trace_channels(network, (3, 16, 16)), {INNER: 4})
    twice = narrow(network, widths)
    save_student(tmp_path / 'twice.pth', twice, origin.narrowed(widths))
    loaded, second = read_student(tmp_path / 'twice.pth')
    assert loaded.get_submodule(INNER).out_channels == 2 and second.constructor['widths'] == HALF.to_dict()

    source, constructor = build_source(tmp_path / 'twice.pth')
    plan = make_plan(source, [dict(source='backbone.layer1.0', target='ConvBlock')], (3, 16, 16))
    save_student(tmp_path / 'recast.pth', check_plan(source, plan), Origin(constructor, plan))
    loaded = load_student(tmp_path / 'recast.pth')
    assert loaded.get_submodule(INNER).out_channels == 2
    assert type(loaded.backbone.layer1[0]).__name__ == 'ConvBlock'


def test_origins(constructor):
    assert Origin(constructor).as_constructor() is constructor
    assert Origin(None, None, HALF).as_constructor() is None
    assert Origin(constructor).narrowed(HALF) == Origin(constructor, None, HALF)
    assert Origin(constructor).narrowed(Widths({}, (3, 16, 16))) == Origin(constructor)  # a divisor of 1 is no change
    assert Origin(constructor).changes() == dict(plan=None, widths=None)


def test_a_recast_network_needs_a_change(constructor):
    with pytest.raises(ValueError, match='a RecastNetwork needs a plan, widths or both: without them it is its source'):
        build_network(dict(type='RecastNetwork', source=untrained(constructor)))


def kept(inputs, outputs, path=INNER):
    return dict(input_shape=[3, 16, 16], layers={path: dict(inputs=inputs, outputs=outputs)})


@pytest.mark.parametrize(
    ('widths', 'message'),
    [
        ([1, 2], r'widths are dict\(input_shape=…, layers=…\), got \[1, 2\]'),
        ('evil_package.run', 'widths are dict'),
        (dict(layers={}), 'widths are dict'),
        (dict(layers=[1], input_shape=[3, 16, 16]), 'widths are dict'),
        (dict(layers={}, input_shape=[3, 16]), 'input_shape of widths is three numbers'),
        (dict(layers={}, input_shape=[3, 16, True]), 'input_shape of widths is three numbers'),
        (dict(layers={INNER: [8]}, input_shape=[3, 16, 16]), f"widths of layer '{INNER}' are dict.inputs=…, outputs=…"),
        (dict(layers={7: [8]}, input_shape=[3, 16, 16]), 'widths of layer 7 are dict'),
        (kept([[0, 32]], []), r'ranges \[\[start, stop\], …\] expected, got \[\]'),
        (kept([[0, 32]], [[0, 8.0]]), 'ranges .* expected, got'),
        (kept([[0, 32]], [[-1, 8]]), 'ranges .* expected, got'),
        (kept([[0, 32]], [[8, 8]]), 'ranges .* expected, got'),
        (kept([[0, 32]], [[0, 8], [4, 9]]), 'ranges must go upwards'),
        (kept([[0, 32]], [[0, 10**12]]), 'the widths do not fit: .* has out_channels=16, kept are'),
        (kept([[0, 33]], [[0, 8]]), 'the widths do not fit: .* has in_channels=32, kept are'),
        (kept([[0, 32]], [[0, 8]], 'backbone.layer9'), "the widths do not fit ImageClassifier: .*'backbone.layer9'"),
        (kept([[0, 32]], [[0, 8]], 'backbone'), "the widths do not fit: 'backbone' is a CifarResNet"),
        (kept([[0, 32]], [[0, 8]], '__class__'), "no module '__class__'"),
    ],
)
def test_widths_of_a_stranger_are_checked(narrowed, tmp_path, widths, message):
    torch.save(torch.load(narrowed[2], weights_only=True) | dict(widths=widths), tmp_path / 'changed.pth')
    with pytest.raises(ValueError, match=message) as caught:
        load_student(tmp_path / 'changed.pth')
    assert '\n' not in str(caught.value)


def test_weights_of_other_widths_do_not_fit(narrowed, tmp_path):
    torch.save(torch.load(narrowed[2], weights_only=True) | dict(widths=None), tmp_path / 'changed.pth')
    with pytest.raises(ValueError, match='the weights of .*changed.pth do not fit: .*size mismatch for') as caught:
        load_student(tmp_path / 'changed.pth')
    assert '\n' not in str(caught.value)
