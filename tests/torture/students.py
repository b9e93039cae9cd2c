"""Student files that say something else than a run writes: what each says, and what is answered."""

import copy
import functools
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import tiny
import torch
from torture.attack import Attack
from torture.hostile import GADGETS
from torture.limits import apart, in_time
from torture.places import PLACES, refusal, sound

NAN, HUGE = float('nan'), 10**9


@functools.cache
def _content() -> dict:
    return torch.load(sound() / 'run' / 'student.pth', weights_only=True)


def content() -> dict:
    """Return what the student file of the sound run holds."""
    return copy.deepcopy(_content())


def later(make: Callable[..., dict]) -> Callable[..., Callable[[], dict]]:
    """Let what ``make`` changes in the file be made when it is needed: the file is that of a run."""
    return lambda **values: functools.partial(make, **values)


def backbone(**values: object) -> dict:
    """Return a constructor with another backbone."""
    return dict(constructor=tiny.classifier() | dict(backbone=values))


def part(**values: object) -> dict:
    """Return a constructor with a further part."""
    return dict(constructor=tiny.classifier() | dict(part=values))


@later
def entry(index: int = 0, **values: object) -> dict:
    """Return a plan with values of one entry changed; '-' takes one away."""
    plan = content()['plan']
    changed = plan['entries'][index] | values
    plan['entries'][index] = {key: value for key, value in changed.items() if value != '-'}
    return dict(plan=plan)


@later
def target(**values: object) -> dict:
    """Return a plan with values of one target changed."""
    return entry(target=content()['plan']['entries'][0]['target'] | values)()


@later
def plan(**values: object) -> dict:
    """Return a plan with other entries beside its list."""
    return dict(plan=content()['plan'] | values)


@later
def source(**values: object) -> dict:
    """Return a plan in which one source is described otherwise."""
    return entry(source=content()['plan']['entries'][0]['source'] | values)()


@later
def weights(**values: object) -> dict:
    """Return weights with some of them changed."""
    return dict(weights=dict(content()['weights']) | values)


REFUSED = 'is no part of a network|is not registered'
ANSWERS = dict(type='VQAGenerationHead', inference_method='rank', decoder=dict(type='GlobalAveragePooling'))
RESNET = dict(type='TorchvisionClassifier', name='resnet18')


ANSWERS_FILE = 'FOLDER/answers.pkl'  # a pickle that runs something
HOSTILE: dict[str, tuple[dict | Callable[[], dict], str]] = {  # name: what is changed in the file, what is said of it
    # ---- constructors
    'os.system': (dict(constructor=dict(type='os.system', command='true')), REFUSED),
    'os.system inside': (backbone(type='os.system', command='true'), REFUSED),
    'torch.hub.load': (backbone(type='torch.hub.load', repo_or_dir='x/y', model='z'), REFUSED),
    'builtins.eval': (part(type='builtins.eval', source='1'), REFUSED),
    'dunder': (backbone(type='__class__'), REFUSED),
    'path of modules': (backbone(type='mmpretrain.models.builder.build_backbone'), REFUSED),
    'a lambda': (backbone(type='lambda: 0'), REFUSED),
    'a relative module': (backbone(type='..os.system'), REFUSED),
    'a type of bytes': (backbone(type=b'CifarResNet'), 'a registered name expected'),
    'a type of a list': (backbone(type=['CifarResNet']), 'a registered name expected'),
    'scope': (dict(constructor=tiny.classifier() | dict(_scope_='os')), 'unknown scope'),
    'scope inside': (backbone(type='ResNet', depth=18, _scope_='antigravity'), 'unknown scope'),
    'Pretrained': (
        backbone(type='ResNet', depth=18, init_cfg=dict(type='Pretrained', checkpoint='http://localhost/x.pth')),
        'must not load weights',
    ),
    'pretrained': (backbone(type='ResNet', depth=18, pretrained=ANSWERS_FILE), 'must not load weights'),
    'weights to download': (dict(constructor=RESNET | dict(weights='DEFAULT')), 'must not load weights'),
    'weights of a file': (dict(constructor=RESNET | dict(weights=ANSWERS_FILE)), 'must not load weights'),
    'a hub of timm': (dict(constructor=dict(type='TimmClassifier', name='hf_hub:timm/resnet18')), 'name a file'),
    'a checkpoint of timm': (
        dict(constructor=dict(type='TimmClassifier', name='resnet18', checkpoint_path=ANSWERS_FILE)),
        'must not name a file',
    ),
    'TIMMBackbone': (backbone(type='TIMMBackbone', model_name='resnet18', pretrained=True), 'must not load'),
    'Hugging Face': (dict(constructor=dict(type='mmpretrain.HuggingFaceClassifier', model_name='x')), REFUSED),
    'a multimodal model': (dict(constructor=dict(type='mmpretrain.Flamingo')), REFUSED),
    'answers in a pickle': (part(**ANSWERS, answer_list_path=ANSWERS_FILE), REFUSED),
    'answers from an address': (part(**ANSWERS, answer_list_path='http://localhost/x.pkl'), REFUSED),
    'margins in a file': (part(type='ArcFaceClsHead', in_channels=2, margins='m.txt'), 'name a file'),
    'a tokenizer': (part(type='GroundingHead', tokenizer=dict(type='BlipTokenizer')), REFUSED),
    'an ensemble with files': (
        dict(constructor=dict(type='TeacherEnsemble', teachers=dict(a=dict(network='x.py')))), REFUSED
    ),
    'an algorithm': (dict(constructor=dict(type='Recasting', teacher='x.py', recipe=[])), REFUSED),
    'a dataset': (part(type='CIFAR10', data_root='.'), REFUSED),
    'a config file': (dict(constructor='configs/x.py'), "a dict with 'type'"),
    'source of a file': (dict(constructor=dict(type='RecastNetwork', source='x.pth', plan={})), 'name a file'),
    'plan in a constructor': (
        dict(constructor=dict(type='RecastNetwork', source=tiny.classifier(), plan=dict(entries=7))), 'not a recast'
    ),
    'a path with ..': (backbone(type='CifarResNet', depth='../../etc/passwd'), 'name a file'),
    '_delete_': (backbone(type='mmrecast.CifarResNet', depth=8, _delete_=True), 'takes no argument'),
    'custom_imports': (
        backbone(type='mmrecast.CifarResNet', depth=8, custom_imports=['antigravity']), 'takes no argument'
    ),
    'dunder argument': (backbone(type='mmrecast.CifarResNet', depth=8, __class__='x'), 'takes no argument'),
    '10^9 channels': (backbone(type='mmrecast.CifarResNet', depth=8, widths=[HUGE] * 3), 'more than .* MiB'),
    '10^20 channels': (backbone(type='mmrecast.CifarResNet', depth=8, widths=[10**20] * 3), 'cannot be built'),
    '-1 channels': (backbone(type='mmrecast.CifarResNet', depth=8, widths=[-1] * 3), 'cannot be built'),
    'nan channels': (backbone(type='mmrecast.CifarResNet', depth=8, widths=[NAN] * 3), 'cannot be built'),
    'text for a number': (backbone(type='mmrecast.CifarResNet', depth='8'), 'cannot be built'),
    'a window of 10^6': (backbone(type='SwinTransformer', window_size=10**6), 'more than .* MiB'),
    'an image of 10^6': (backbone(type='VisionTransformer', img_size=10**6), 'more than .* MiB'),
    # ---- plans
    'block os.system': (target(type='os.system'), 'not registered'),
    'block of torch': (target(type='torch.nn.Identity'), 'not registered'),
    'block of a model': (target(type='CifarResNet'), 'not registered'),
    'block of none': (target(type=None), 'not registered'),
    'block with a hook': (target(norm=dict(type='os.system')), 'not registered'),
    'block with an import': (target(custom_imports=dict(imports=['antigravity'])), 'takes no argument'),
    'block with a dunder': (target(__init__='x'), 'takes no argument'),
    'block of 10^9 channels': (target(out_channels=HUGE), 'cannot be built: it would take more'),
    'block of 10^30 channels': (target(out_channels=10**30), 'cannot be built'),
    'block of -3 channels': (target(out_channels=-3), 'cannot be built'),
    'block of nan channels': (target(out_channels=NAN), 'cannot be built'),
    'block of "4" channels': (target(out_channels='4'), 'cannot be built'),
    'kernel of 10^6': (target(kernel_size=10**6 + 1), 'cannot be built'),
    'stride 0': (target(stride=0), 'cannot be built'),
    'path with ..': (entry(path='../../x'), 'has no module'),
    'path of a dunder': (entry(path='__class__'), 'has no module'),
    'path of a dunder inside': (entry(path='backbone.__init__.__globals__'), 'has no module'),
    'path that is a method': (entry(path='backbone.forward'), 'has no module'),
    'path of a number': (entry(path=3), 'no path of a module'),
    'path of nothing': (entry(path=''), 'has no module'),
    'glue of a dunder': (entry(glue=['__dict__']), 'has no module'),
    'glue of numbers': (entry(glue=[1, 2]), 'no path of a module'),
    'span of a text': (entry(span='backbone'), 'has no module'),
    'unknown action': (entry(action='exec'), 'is none of'),
    'unknown key': (entry(code='import os'), 'too much or too little'),
    'lacking key': (entry(path='-'), 'too much or too little'),
    'channels of nan': (entry(out_channels=NAN), 'no number of channels'),
    'channels of True': (entry(in_channels=True), 'no number of channels'),
    'channels below 0': (entry(in_channels=-4), 'no number of channels'),
    'shape of text': (entry(in_shape='4x4'), 'no number of channels'),
    'shape of two': (entry(in_shape=[4, 4]), 'shapes are'),
    'source with a key': (source(module='os'), 'not a recasting plan'),
    'an image of 10^18': (plan(input_shape=[1, HUGE, HUGE]), 'at most .* numbers'),
    'an image of text': (plan(input_shape='123'), 'three numbers'),
    'entries that are one': (plan(entries=dict(path='x')), 'not a recasting plan'),
    'entries of text': (plan(entries=['x']), 'not a recasting plan'),
    'no entries': (dict(plan={}), 'not a recasting plan'),
    'a plan of text': (dict(plan='import os'), 'not a recasting plan'),
    'widths of text': (dict(widths='x'), 'widths are dict'),
    # ---- weights
    'weights of text': (dict(weights='x'), 'do not fit'),
    'weights of none': (dict(weights=None), 'do not fit'),
    'a weight of text': (weights(**{'head.fc.bias': 'x'}), 'do not fit'),
    'a weight too many': (weights(evil=torch.ones(1)), 'do not fit'),
    'a weight of other shape': (weights(**{'head.fc.bias': torch.ones(1)}), 'do not fit'),
    'a key of a number': (dict(weights={1: torch.ones(1)}), 'do not fit'),
    'another format': (dict(format='mmrecast.student/99'), 'not a student file'),
    'a format of a list': (dict(format=['x']), 'not a student file'),
}  # fmt: skip


def written(name: str, folder: Path) -> Path:
    """Write one of ``HOSTILE`` to a folder and return its path; what it may look for lies beside it."""
    changes = HOSTILE[name][0]
    changes = changes() if callable(changes) else changes
    (folder / 'answers.pkl').write_bytes(pickle.dumps(GADGETS['os.system'](folder / 'mark')))
    torch.save(_in(folder, content() | changes), folder / 'student.pth')
    return folder / 'student.pth'


def _in(folder: Path, value: object) -> object:
    if isinstance(value, dict):
        return {key: _in(folder, item) for key, item in value.items()}
    return value.replace('FOLDER', str(folder)) if isinstance(value, str) else value


def _attack(name: str, folder: Path) -> None:
    file = written(name, folder)

    def read(place: str) -> None:
        line = refusal(lambda: PLACES[place](file))
        assert re.search(HOSTILE[name][1], line), line

    for place in ('load_student', 'get_complexity'):
        with in_time():
            apart(functools.partial(read, place), 4 << 30)
    assert not (folder / 'mark').exists()


STUDENTS = [Attack('a student file that says something else', functools.partial(_attack, name)) for name in HOSTILE]
