"""Distillers of two phases, with connectors, memories and random draws of their own, go on bit for bit."""

import pytest
import torch
from tiny import Killed, classifier, config, differing, preprocessor, run, weights, without_seconds

from mmrecast.models import build_network
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

POOLED = dict(path='head.fc', read='input')
FACTORS = [
    dict(teacher='last', teacher_connector='coder', loss=dict(type='L1Loss'), stage='pretrain'),
    dict(student='last', teacher='last', connector=dict(type='Translator'), teacher_connector='coder',
         loss=dict(type='FTLoss', loss_weight=10.0)),
]  # fmt: skip
CONTRAST = dict(
    student=POOLED, teacher=POOLED, connector=dict(type='CRDConnector', dim_out=8),
    teacher_connector=dict(type='CRDConnector', dim_out=8),
    loss=dict(type='CRDLoss', neg_num=16, dim_out=8, sample_n=96),
)  # fmt: skip
STAGES = [dict(kind='pretrain', iters=4, val=False), dict(kind='train', iters=7)]


def distiller(**changes):
    """Factor Transfer with CRD beside it, of which one draws and remembers at every step."""
    model = dict(
        type='SingleTeacherDistill', teacher=classifier(depth=14), student=classifier(depth=8, widths=(4, 6, 8)),
        taps={side: dict(last='backbone.layer3') for side in ('student', 'teacher')},
        links=[*FACTORS, CONTRAST | dict(warmup=0.5)], connectors=dict(coder=dict(type='Paraphraser')),
        data_preprocessor=preprocessor(crop_padding=1),
    )  # fmt: skip
    return config(model | changes, STAGES, checkpoint=dict(iter_interval=1))


@pytest.mark.parametrize(('kind', 'n'), [('iter', 2), ('stage', 1), ('iter', 5), ('epoch', 3), ('iter', 10)])
def test_goes_on_bit_for_bit(tmp_path, kind, n):
    whole = run(distiller(), tmp_path / 'whole')
    with pytest.raises(Killed):
        run(distiller(), tmp_path / 'cut', crash=dict(kind=kind, n=n))
    resumed = run(distiller(), tmp_path / 'cut', resume=True)
    assert not differing(weights(tmp_path / 'whole'), weights(tmp_path / 'cut'))
    assert without_seconds(resumed) == without_seconds(whole)
    last = 'stage002_iter00000011.pth'
    states = [load_file(tmp_path / run / last)['state_dict'] for run in ('whole', 'cut')]
    assert not differing(*states) and any('memory' in name for name in states[0])
    assert any(name.startswith('connectors.coder') for name in states[0])
    coders = [load_file(tmp_path / run / 'coder.pth')['weights'] for run in ('whole', 'cut')]
    assert not differing(*coders)


def test_a_pretrained_connector_makes_the_first_phase_needless(tmp_path):
    run(distiller(), tmp_path / 'one')
    coder = dict(type='Paraphraser', pretrained=str(tmp_path / 'one' / 'coder.pth'))
    cfg = distiller(connectors=dict(coder=coder))
    cfg.randomness = dict(seed=1)
    with pytest.raises(ValueError, match='coder.pth was trained on another teacher'):  # its weights are drawn anew
        run(cfg, tmp_path / 'two')
    teacher = tmp_path / 'teacher.pth'
    torch.manual_seed(5)
    torch.save(build_network(classifier(depth=14)).state_dict(), teacher)
    run(distiller(teacher_ckpt=str(teacher)), tmp_path / 'three')
    coder['pretrained'] = str(tmp_path / 'three' / 'coder.pth')
    cfg = distiller(teacher_ckpt=str(teacher), connectors=dict(coder=coder))
    cfg.train_cfg.stages = STAGES[1:]
    result = run(cfg, tmp_path / 'four')
    assert [stage['name'] for stage in result['stages']] == ['train']
    kept = load_file(coder['pretrained'])['weights']
    state = load_file(tmp_path / 'four' / 'stage001_iter00000007.pth')['state_dict']
    assert all(torch.equal(value, state[f'connectors.coder.{name}']) for name, value in kept.items())
