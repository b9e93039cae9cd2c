"""The shell commands: what they call, with programs put in the place of those they call."""

import os
import re
import shutil
import signal as signals
import stat
import subprocess

import pytest


def _program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/usr/bin/env bash\n{text}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def show(tmp_path):
    """A program that prints its arguments, one a line, and the number of threads."""
    return _program(tmp_path / 'show', 'printf "%s\\n" "$@" "threads=$OMP_NUM_THREADS"')


def _call(root, script, *arguments, **environment):
    kept = {name: os.environ[name] for name in ('PATH', 'HOME') if name in os.environ}
    return subprocess.run(
        ['bash', str(root / 'tools' / script), *arguments],
        capture_output=True,
        text=True,
        env={**kept, **{name: str(value) for name, value in environment.items()}},
    )


def test_every_script_is_valid_bash(repo_root):
    scripts = [*repo_root.glob('tools/**/*.sh'), repo_root / '.ci' / 'run']
    assert len(scripts) >= 8
    for script in scripts:
        subprocess.run(['bash', '-n', str(script)], check=True)
        if script.parent.name != 'lib':
            assert script.stat().st_mode & stat.S_IXUSR, f'{script} is not executable'


def test_dist_train(repo_root, show):
    called = _call(repo_root, 'dist_train.sh', 'a config.py', '2', '--resume', PYTHON=show).stdout.splitlines()
    assert called == [
        str(repo_root / 'tools' / 'lib' / 'processes.py'),
        '--nnodes=1',
        '--node_rank=0',
        '--master_addr=127.0.0.1',
        '--master_port=29500',
        '--nproc_per_node=2',
        str(repo_root / 'tools' / 'train.py'),
        'a config.py',
        '--resume',
        '--launcher',
        'pytorch',
        'threads=1',
    ]


def test_dist_test_on_several_machines(repo_root, show):
    machines = {'NNODES': 3, 'NODE_RANK': 2, 'MASTER_ADDR': 'first', 'PORT': 1234, 'OMP_NUM_THREADS': 7}
    called = _call(repo_root, 'dist_test.sh', 'c.py', 'x.pth', '4', PYTHON=show, **machines).stdout.splitlines()
    assert called[1:] == [
        '--nnodes=3',
        '--node_rank=2',
        '--master_addr=first',
        '--master_port=1234',
        '--nproc_per_node=4',
        str(repo_root / 'tools' / 'test.py'),
        'c.py',
        'x.pth',
        '--launcher',
        'pytorch',
        'threads=7',
    ]


@pytest.mark.parametrize('work_dir', [(), ('runs/a b',)])
def test_slurm_train(work_dir, repo_root, show, tmp_path):
    path = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    _program(tmp_path / 'bin' / 'srun', show.read_text())
    options = {'PATH': path, 'PYTHON': 'py', 'GPUS': 4, 'SRUN_ARGS': '--time 5'}
    arguments = ['part', 'job', 'c.py', *work_dir, '--amp']
    called = _call(repo_root, 'slurm_train.sh', *arguments, **options).stdout.splitlines()
    assert called[:9] == [
        '--partition=part',
        '--job-name=job',
        '--gres=gpu:4',
        '--ntasks=4',
        '--ntasks-per-node=4',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--time',
        '5',
    ]
    asked = ['--work-dir', *work_dir] if work_dir else []
    train = str(repo_root / 'tools' / 'train.py')
    assert called[9:-1] == ['py', '-u', train, 'c.py', *asked, '--amp', '--launcher', 'slurm']


def test_slurm_test_on_two_machines(repo_root, show, tmp_path):
    _program(tmp_path / 'bin' / 'srun', show.read_text())
    options = {'PATH': f'{tmp_path / "bin"}:{os.environ["PATH"]}', 'PYTHON': 'py', 'GPUS': 16}
    called = _call(repo_root, 'slurm_test.sh', 'part', 'job', 'c.py', 'x.pth', **options).stdout.splitlines()
    assert called[2:5] == ['--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8']
    assert called[7:-1] == [
        'py',
        '-u',
        str(repo_root / 'tools' / 'test.py'),
        'c.py',
        'x.pth',
        '--launcher',
        'slurm',
    ]


@pytest.mark.parametrize(
    ('script', 'arguments', 'message'),
    [
        ('dist_train.sh', ['c.py'], r'usage: dist_train\.sh CONFIG GPUS \[.*\]'),
        ('dist_train.sh', ['c.py', 'two'], "dist_train.sh: GPUS has to be a positive number, got 'two'"),
        ('dist_train.sh', ['c.py', '0'], "dist_train.sh: GPUS has to be a positive number, got '0'"),
        ('dist_test.sh', ['c.py', '2'], r'usage: dist_test\.sh CONFIG CHECKPOINT GPUS \[.*\]'),
        ('slurm_train.sh', [], r'usage: slurm_train\.sh PARTITION JOB_NAME CONFIG \[WORK_DIR\] \[.*\]'),
        (
            'slurm_test.sh',
            ['p', 'j', 'c'],
            r'usage: slurm_test\.sh PARTITION JOB_NAME CONFIG CHECKPOINT \[.*\]',
        ),
    ],
)
def test_a_wrong_call_is_one_line(script, arguments, message, repo_root, show):
    done = _call(repo_root, script, *arguments, PYTHON=show)
    assert done.returncode == 2
    assert re.fullmatch(message + '\n', done.stderr)
    assert done.stdout == ''


# The environment. A made-up python3.11 makes environments whose Python writes down what pip is asked for.

FAKE = r"""
case "$*" in
    -c*) exit "${TOO_OLD:-0}" ;;
    --version) echo Python 3.11.0 ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit "${NO_VENV:-0}" ;;
    "-m pip --version") exit 0 ;;
    "-m pip install"*)
        shift 3
        echo "$*" >>"$LOG"
        [ -z "$SLOW" ] || sleep "$SLOW"
        [ -z "$SIGNAL" ] || { kill -s "$SIGNAL" "$PPID"; exit 2; }
        exit "${NO_PIP:-0}" ;;
esac
"""


@pytest.fixture
def place(repo_root, tmp_path):
    """A copy of what the environment is made from, beside a made-up Python."""
    root = tmp_path / 'a copy'
    (root / 'tools' / 'lib').mkdir(parents=True)
    (root / 'mmrecast').mkdir()
    for name in ('setup.py', 'constraints.txt', 'mmrecast/version.py', 'tools/lib/venv.sh'):
        shutil.copy(repo_root / name, root / name)
    for name in ('python3.11', 'python3'):
        _program(tmp_path / 'bin' / name, FAKE)
    return root


def _start(place, **environment):
    code = 'set -e; source tools/lib/venv.sh; ensure_venv; echo "$VENV_PYTHON"'
    path = f'{place.parent / "bin"}:{os.environ["PATH"]}'
    environment = {name: str(value) for name, value in environment.items()}
    environment = {'PATH': path, 'LOG': str(place / 'log'), **environment}
    return subprocess.Popen(
        ['bash', '-c', code],
        cwd=place,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_interruptible,
    )


def _interruptible():
    """Undo what a shell does to background jobs: they ignore Ctrl-C, and so does all that they start."""
    signals.signal(signals.SIGINT, signals.SIG_DFL)


def _ensure(place, **environment):
    process = _start(place, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out.strip(), err


def _installed(place):
    return (place / 'log').read_text().splitlines()


def test_the_environment_is_made_once_and_torch_comes_first(place):
    assert _ensure(place)[:2] == (0, f'{place}/.venv/bin/python')
    torch, rest = _installed(place)
    pinned = '--quiet --disable-pip-version-check -c constraints.txt'
    assert torch == f'{pinned} torch torchvision setuptools'
    assert rest == f'{pinned} --no-build-isolation -e .[tests,quickstart,timm]'
    assert _ensure(place) == (0, f'{place}/.venv/bin/python', '')
    assert len(_installed(place)) == 2


def test_other_requirements_are_installed_into_the_same_environment(place):
    _ensure(place)
    (place / '.venv' / 'mine').touch()
    with open(place / 'constraints.txt', 'a') as file:
        file.write('one-more==1\n')
    assert _ensure(place)[0] == 0
    assert len(_installed(place)) == 4
    assert (place / '.venv' / 'mine').exists()


def test_an_environment_made_by_hand_is_kept(place):
    _program(place / '.venv' / 'bin' / 'python', FAKE)
    (place / '.venv' / 'mine').touch()
    assert _ensure(place)[0] == 0
    assert (place / '.venv' / 'mine').exists()


@pytest.mark.parametrize('signal', ['KILL', 'INT', 'TERM'])
def test_an_interrupted_set_up_is_made_anew(signal, place):
    code, _, _ = _ensure(place, SIGNAL=signal)
    assert code not in (0, 1)
    (place / '.venv' / 'half').touch()
    assert _ensure(place)[0] == 0
    assert not (place / '.venv' / 'half').exists()
    assert len(_installed(place)) == 3


def test_a_failing_pip_is_reported_and_tried_again(place):
    code, out, err = _ensure(place, NO_PIP=1)
    assert (code, out) == (1, '')
    assert err.splitlines()[-1] == 'pip could not install: torch torchvision setuptools'
    (place / '.venv' / 'kept').touch()
    assert _ensure(place)[0] == 0
    assert (place / '.venv' / 'kept').exists()


@pytest.mark.skipif(shutil.which('flock') is None, reason='this machine has no flock')
def test_two_calls_at_once_set_up_once(place):
    calls = [_start(place, SLOW=0.5) for _ in range(2)]
    results = [call.communicate(timeout=60)[0].strip() for call in calls]
    assert results == [f'{place}/.venv/bin/python'] * 2
    assert len(_installed(place)) == 2


def test_no_python_is_one_line(place):
    code, out, err = _ensure(place, TOO_OLD=1)
    assert (code, out) == (1, '')
    assert err == 'mmrecast needs Python 3.10 or newer: found neither python3.11 nor such a python3\n'


def test_a_python_without_venv_is_reported(place):
    code, _, err = _ensure(place, NO_VENV=1)
    assert code == 1
    assert 'python3.11 cannot make a virtual environment; on Debian and Ubuntu, install python3-venv' in err
    assert not (place / '.venv').exists()
