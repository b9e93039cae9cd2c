"""Several trainings by one command: what is missing is trained, what is done is left alone, what fails is told."""

import importlib.util
import json

import pytest
from tiny import classifier, config, preprocessor, recasting, write

STAGES = [dict(kind='recast', blocks='all', iters=1), dict(kind='finetune', iters=2)]
TRAIN = [dict(kind='train', iters=5)]


@pytest.fixture
def benchmark(repo_root, tmp_path, monkeypatch):
    """The tool with a configs folder of three tiny leaves: a teacher, a recasting and back propagation."""
    spec = importlib.util.spec_from_file_location('run_benchmark', repo_root / 'tools' / 'run_benchmark.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / 'configs'
    for method in ('recasting', 'backprop'):
        (folder / method).mkdir(parents=True)
    scratch = dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=preprocessor(crop_padding=1))
    ckpt = 'work_dirs/backprop_net_data/student.pth'
    hook = [dict(type='ResultHook', method='backprop')]
    write(config(scratch, TRAIN, custom_hooks=hook), folder / 'backprop/backprop_net_data.py')
    write(config(scratch, TRAIN, custom_hooks=hook), folder / 'backprop/backprop_net_conv_data.py')
    ours = config(recasting(teacher_ckpt=ckpt), STAGES, custom_hooks=[dict(type='ResultHook', method='recasting')])
    write(ours, folder / 'recasting/recasting_net_conv_data.py')
    write(config(recasting(teacher_ckpt='nowhere.pth'), STAGES), folder / 'recasting/recasting_lost_conv_data.py')
    monkeypatch.setattr(module, 'CONFIGS', folder)
    monkeypatch.setenv('PYTHONPATH', str(repo_root / 'tests'))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    return module


def test_the_teacher_then_the_methods_then_the_comparison(benchmark, tmp_path, capsys):
    command = ['--pair', 'net_conv_data', '--methods', 'recasting', 'backprop', '--seeds', '3']
    command += ['--out', str(tmp_path / 'out')]
    benchmark.main([*command, '--jobs', '2'])
    out = tmp_path / 'out'
    content = json.loads((out / 'net_conv_data/benchmark.json').read_text())
    assert (content['pair'], content['data']) == ('net_conv_data', 'Digits')
    runs = content['runs']
    assert list(runs) == ['teacher', 'recasting', 'backprop']
    assert [runs[name]['seed'] for name in ('recasting', 'backprop')] == [3, 3]
    assert runs['recasting']['teacher']['top1'] == pytest.approx(runs['teacher']['top1'])
    assert runs['recasting']['images_seen'] == (3 * 1 + 2) * 32 and 'plan' not in runs['recasting']
    assert runs['recasting']['command'].startswith('OMP_NUM_THREADS=1 python tools/train.py ')
    assert runs['recasting']['command'].endswith('randomness.seed=3 model.teacher_ckpt=TEACHER')
    assert (out / 'net_conv_data/report/index.html').is_file() and (out / 'backprop_net_data/student.pth').is_file()

    before = (out / 'net_conv_data/recasting_seed3/student.pth').stat().st_mtime_ns
    capsys.readouterr()
    benchmark.main(command)
    assert capsys.readouterr().out.count('already done') == 3
    assert (out / 'net_conv_data/recasting_seed3/student.pth').stat().st_mtime_ns == before


def test_a_budget_holds_for_every_method(benchmark, tmp_path, trained_teacher):
    out = tmp_path / 'out'
    options = ['--methods', 'recasting', 'backprop', '--budget', '9', '--teacher-ckpt', trained_teacher]
    benchmark.main(['--pair', 'net_conv_data', *options, '--out', str(out)])
    runs = json.loads((out / 'net_conv_data/benchmark.json').read_text())['runs']
    assert {name: run['images_seen'] for name, run in runs.items()} == dict(recasting=9 * 32, backprop=9 * 32)
    assert 'train_cfg.budget=9' in runs['recasting']['command']


def test_a_failed_run_is_told_and_the_others_go_on(benchmark, tmp_path, capsys, trained_teacher):
    options = ['--methods', 'recasting', 'backprop', '--teacher-ckpt', trained_teacher, '--out', str(tmp_path / 'out')]
    with pytest.raises(SystemExit):
        benchmark.main(['--pair', 'net_conv_data', *options, '--cfg-options', 'model.start=nothing'])
    said = capsys.readouterr()
    assert (
        'recasting_seed0 ended with status 2: error: start must be one of' in said.err
        and len(said.err.splitlines()) == 1
    )
    assert 'backprop_seed0 ended with status' in said.err  # it has no start


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['net_convv_data'], "recasting has no config for the pair 'net_convv_data' (nearest: net_conv_data"),
        (['net_conv_data', '--methods', 'recastin'], "there is no method 'recastin' (nearest: recasting"),
        (['net_conv_data', '--teacher-ckpt', 'nothing.pth'], 'there is no teacher at nothing.pth'),
        (['lost_conv_data', '--methods', 'recasting'], 'is not at nowhere.pth, and no config trains it'),
        (['net_conv_data', '--jobs', '0'], '--jobs must be at least 1, got 0'),
        (['net_conv_data', '--budget', '0'], '--budget must be at least 1, got 0'),
    ],
)
def test_mistakes_are_told_before_anything_trains(benchmark, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        benchmark.main(['--pair', *arguments, '--out', str(tmp_path / 'out')])
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / 'out').exists()


def test_further_configs_and_every_network_of_a_run_have_rows(benchmark, tmp_path):
    leaf = tmp_path / 'configs/adjoined/adjoined_net_alpha2_data.py'
    leaf.parent.mkdir()
    network = classifier(widths=(4, 8, 8), shortcut='B')
    model = dict(type='AdjoinedNetwork', network=network, alpha=2, above=4, data_preprocessor=preprocessor())
    write(config(model, [dict(kind='train', iters=2)], custom_hooks=[dict(type='ResultHook', method='adjoined')]), leaf)
    command = ['--pair', 'net_conv_data', '--methods', 'backprop', '--out', str(tmp_path / 'out')]
    benchmark.main([*command, '--configs', 'adjoined_net_alpha2_data'])
    runs = json.loads((tmp_path / 'out/net_conv_data/benchmark.json').read_text())['runs']
    small, full = 'adjoined_net_alpha2_data', 'adjoined_net_alpha2_data (full)'
    assert list(runs) == ['backprop', small, full]
    assert (runs[small]['method'], runs[full]['method']) == ('adjoined', 'adjoined (full)')
    assert runs[small]['also'] == dict(full=runs[full]['top1']) and runs[small]['command'] == runs[full]['command']
    with pytest.raises(SystemExit):
        benchmark.main([*command, '--configs', 'adjoined_net_alpha4_data'])
    with pytest.raises(ValueError, match='no config .adjoined_net_alpha4_data. .nearest: adjoined_net_alpha2_data'):
        benchmark.config_named('adjoined_net_alpha4_data')
