"""Losses, connectors and generators against the numbers that MMRazor printed for its own (``data/mmrazor_numbers``).

The file tells where they come from and by which formulas the inputs are made; nothing of MMRazor is needed here.
"""

import inspect
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmrecast.registry import MODELS

DATA = json.loads((Path(__file__).parents[1] / 'data' / 'mmrazor_numbers.json').read_text(encoding='utf-8'))
RTOL = 1e-5
NAMES = {  # type: {beginning of MMRazor's name of a parameter or buffer: ours}, where they differ
    'FBKDStudentConnector': dict(student_non_local='non_local'),
    'FBKDTeacherConnector': dict(teacher_non_local='non_local'),
}
LEFT_OUT = {  # what MMRazor's constructors take and ours do not, and why
    ('L1Loss', 'size_average'): 'deprecated in torch: reduction says it',
    ('L1Loss', 'reduce'): 'deprecated in torch: reduction says it',
    ('Paraphraser', 'phase'): 'the stage of the schedule says it',
}
OTHER_DEFAULTS = {  # ours, where MMRazor's would be wrong for most data
    ('WSLD', 'num_classes'): None,  # as many as the logits have
    ('CRDLoss', 'sample_n'): None,  # as many as there are training images
}


def phase(name: str) -> float:
    return sum((k + 1) * ord(c) for k, c in enumerate(name)) % 1000 / 1000


def wave(name: str, shape: tuple[int, ...], scale: float = 1.0, shift: float = 0.0) -> Tensor:
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    p = phase(name)
    return (shift + scale * torch.sin((1 + p) * i + 0.013 * i * i + 7 * p)).reshape(shape)


def made(spec: dict | list) -> Tensor | tuple[Tensor, ...]:
    if isinstance(spec, list):
        return tuple(made(one) for one in spec)
    return wave(spec['name'], tuple(spec['shape']), spec['scale'], spec['shift'])


def in_order(case: dict, own: dict[str, Tensor], key: str) -> list[Tensor]:
    """Return ours in MMRazor's order: by name where all names are the same or mapped, else by order; shapes agree."""
    names = [name for name, _ in case[key]]
    for old, new in NAMES.get(case['type'], {}).items():
        names = [new + name.removeprefix(old) if name.startswith(old) else name for name in names]
    tensors = [own[name] for name in names] if set(names) == set(own) else list(own.values())
    assert [list(t.shape) for t in tensors] == [shape for _, shape in case[key]], (list(own), names)
    return tensors


def fill(case: dict, module: nn.Module) -> None:
    with torch.no_grad():
        for k, p in enumerate(in_order(case, dict(module.named_parameters()), 'parameters')):
            flat = p.dim() == 1
            p.copy_(wave(f'parameter{k}', p.shape, *((0.3, 0.5) if flat else (math.sqrt(3 / p[0].numel()),))))
        floats = {name: b for name, b in module.named_buffers() if b.is_floating_point()}
        for k, b in enumerate(in_order(case, floats, 'buffers')):
            b.copy_(wave(f'buffer{k}', b.shape, 0.5, 1.0))


def assert_digest(found: Tensor, expected: dict) -> None:
    """Compare shape, norm, sum, a dot product and the first elements; sums may cancel, so the norm is their scale."""
    flat = found.detach().double().flatten()
    assert list(found.shape) == expected['shape']
    assert flat.norm().item() == pytest.approx(expected['norm'], rel=RTOL)
    near = RTOL * expected['norm']
    assert flat.sum().item() == pytest.approx(expected['sum'], rel=RTOL, abs=near)
    assert (flat * wave('probe', flat.shape)).sum().item() == pytest.approx(expected['dot'], rel=RTOL, abs=near)
    spread = near / math.sqrt(flat.numel())
    assert flat[:5].tolist() == pytest.approx(expected['first'], rel=RTOL, abs=spread)


def build(case: dict) -> nn.Module:
    args = {k: v for k, v in case['args'].items() if (case['type'], k) not in LEFT_OUT}
    return MODELS.build(dict(args, type=case['type'])).double()


def tensors(x: Tensor | tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    return list(x) if isinstance(x, tuple | list) else [x]


def of_kind(*kinds: str) -> list:
    return [pytest.param(case, id=case['id']) for case in DATA['cases'] if case['kind'] in kinds]


def backward(value: Tensor, student: Tensor | tuple[Tensor, ...], case: dict) -> None:
    """Compare a loss and its gradient with respect to the student."""
    assert value.shape == ()
    assert value.item() == pytest.approx(case['value'], rel=RTOL)
    value.backward()
    grads = [torch.zeros_like(s) if s.grad is None else s.grad for s in tensors(student)]
    found = grads[0] if len(grads) == 1 and len(case['grad']['shape']) > 1 else torch.cat([g.flatten() for g in grads])
    assert_digest(found, case['grad'])


@pytest.mark.parametrize('case', of_kind('loss'))
def test_losses_and_their_gradients(case):
    loss = build(case)
    student, *teacher = (made(spec) for spec in case['inputs'])
    for s in tensors(student):
        s.requires_grad_()
    labels = {}
    if case['type'] == 'CrossEntropyLoss':  # MMRazor's takes the teacher's class as the label, ours the label
        teacher = [teacher[0].argmax(1)]
    if 'labels' in case:
        n, classes = case['labels']['shape'][0], case['labels']['classes']
        labels = dict(gt_labels=torch.tensor([(7 * i + 3) % classes for i in range(n)]))
    backward(loss(student, *teacher, **labels), student, case)


@pytest.mark.parametrize('case', of_kind('crd'))
def test_crd(case):
    loss = build(case)
    student, teacher = (made(spec) for spec in case['inputs'])
    student.requires_grad_()
    banks = [b for b in loss.buffers() if tuple(b.shape) == (case['args']['sample_n'], case['args']['dim_out'])]
    assert len(banks) == 2, [(name, tuple(b.shape)) for name, b in loss.named_buffers()]
    for k, bank in enumerate(banks):
        bank.copy_(wave(f'memory{k}', bank.shape, 0.4))
        if 'contrast_sample_idxs' not in case:  # all rows alike: whatever is drawn
            bank.copy_(bank[:1].clone().expand_as(bank))
    if 'contrast_sample_idxs' in case:  # the positive and what MMRazor drew
        loss.draw = lambda sample_idx: torch.tensor(case['contrast_sample_idxs'])[:, 1:]
    index = torch.tensor(case['sample_idx'])
    backward(loss(student, teacher, sample_idx=index), student, case)
    for bank, expected in zip(banks, case['memory_after'], strict=True):
        assert_digest(bank[index], expected)


@pytest.mark.parametrize('case', of_kind('connector', 'generator'))
def test_outputs(case):
    module = build(case)
    fill(case, module)
    if 'batch_norm' in case:  # the margin ReLU of this BN
        bn = nn.BatchNorm2d(case['inputs'][0]['shape'][1]).double()
        for name, spec in case['batch_norm'].items():
            getattr(bn, name).data.copy_(made(spec))
        module.norms = ['bn']
        module.bind(nn.ModuleDict(dict(bn=bn)))
    module.train(case['mode'] == 'train')
    if 'seed' in case:
        torch.manual_seed(case['seed'])
    forward = module.reconstruct if case['args'].get('phase') == 'pretrain' else module
    found = tensors(forward(*(made(spec) for spec in case['inputs'])))
    assert len(found) == len(case['outputs'])
    for x, expected in zip(found, case['outputs'], strict=True):
        assert_digest(x, expected)


@pytest.mark.parametrize('type_', DATA['signatures'])
def test_arguments_and_defaults(type_):
    cls = MODELS.get(type_)
    assert cls is not None, f'{type_} is not registered'
    own = inspect.signature(cls).parameters
    for name, expected in DATA['signatures'][type_].items():
        if (type_, name) in LEFT_OUT:
            assert name not in own
            continue
        assert name in own, f'{type_} has no argument {name}'
        default = own[name].default
        if 'default' not in expected:
            assert default is inspect.Parameter.empty
        elif (type_, name) in OTHER_DEFAULTS:
            assert default == OTHER_DEFAULTS[type_, name] != expected['default']
        else:
            assert json.loads(json.dumps(default)) == expected['default'], name


def test_the_numbers_tell_where_they_come_from():
    assert DATA['provenance']['repository'] == 'https://github.com/open-mmlab/mmrazor'
    assert len(DATA['provenance']['commit']) == 40
    assert {'version', 'torch', 'python'} <= set(DATA['provenance'])
    assert {case['type'] for case in DATA['cases']} == set(DATA['signatures'])
