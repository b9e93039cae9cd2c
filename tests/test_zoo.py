"""Every method of the zoo trains on the digits: no NaN, and its own term goes down."""

import json

import pytest
from zoo import check_common_weights, check_own_terms, leaves, own_terms, run

PAIR = 'resnet14_resnet8_digits'
LEAVES = leaves(PAIR) | dict(born_again=leaves('resnet14_resnet14_digits')['born_again'])
TEACHER = leaves('resnet14_digits')['backprop']
COMMON = leaves('resnet14b_alpha4_digits') | leaves('resnet14b_digits')  # a network and its narrow one
ALONE = ('backprop', 'recasting')  # no term of their own beside the labels, or one per block


@pytest.fixture(scope='module')
def teacher(tmp_path_factory, quick):
    """A ResNet-14 trained for some seconds."""
    folder = tmp_path_factory.mktemp('teacher')
    run(TEACHER, folder)
    return str(folder / 'student.pth')


@pytest.mark.parametrize('method', LEAVES)
def test_every_method_trains(method, tmp_path, teacher, quick):
    changes = {} if method in ('backprop', 'byot') else {'model.teacher_ckpt': teacher}
    result, losses = run(LEAVES[method], tmp_path, changes)
    assert result['complete'] and result['method'] == method
    assert result['images'] == 100 * 128  # one budget for all
    check_own_terms(losses)
    assert own_terms(losses) or method in ALONE
    assert result['top1'] > 20  # of ten classes


@pytest.mark.parametrize('method', ['adjoined', 'adjoined_detached', 'dan'])
def test_two_networks_with_common_weights_train(method, tmp_path, quick):
    result, losses = run(COMMON[method], tmp_path)
    assert result['complete'] and result['method'] == method and result['images'] == 100 * 128
    check_common_weights(losses)
    full = json.loads((tmp_path / 'full/result.json').read_text())
    assert result['also'] == dict(full=full['top1'])
    assert min(result['top1'], full['top1']) > 90


def test_every_method_has_a_leaf():
    methods = {path.stem for path in (TEACHER.parents[1] / '_base_' / 'methods').glob('*.py')}
    # Of these the digits have no use: a transformer's token, and a second setting of the same method.
    assert methods - set(LEAVES) - set(COMMON) == {'deit', 'factor_transfer_mmrazor'}
