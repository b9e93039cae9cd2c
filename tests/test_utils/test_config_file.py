"""Reading config files."""

import pytest

from mmrecast.utils.config_file import read_config


def test_options_change_the_config_and_may_name_what_the_runner_knows(tmp_path):
    (tmp_path / 'config.py').write_text('model = dict(type=1, depth=2)\nown = 3\n')
    cfg = read_config(
        tmp_path / 'config.py', {'model.depth': 5, 'model.width': 6, 'own': 7, 'auto_scale_lr.enable': True}
    )
    assert cfg.to_dict() == dict(model=dict(type=1, depth=5, width=6), own=7, auto_scale_lr=dict(enable=True))


@pytest.mark.parametrize(
    ('text', 'options', 'said'),
    [
        ("model = dict(type='Recasting'\n", {}, "config.py cannot be read: '.' was never closed, line 1$"),
        ('model = dict(type=Recasting)\n', {}, "cannot be read: NameError: name 'Recasting' is not defined$"),
        ("_base_ = './nowhere.py'\n", {}, r'cannot be read: .*nowhere.py: No such file or directory$'),
        (
            "custom_imports = dict(imports=['my_blocs'])\n",
            {},
            "cannot be read: .*No module named 'my_blocs'; a module of yours needs its folder on PYTHONPATH$",
        ),
        (
            'model = dict()\n',
            {'modle.start': 1},
            "--cfg-options modle.start: the config has no 'modle' .nearest: model",
        ),
        (
            'x = [1]\n',
            {'x.7.y': 1},
            '--cfg-options x.7.y: KeyError: .*Index 7 exceeds .*; the config has no such place$',
        ),
        (None, {}, r'there is no config file .*config.py .nearest: confg.py'),
    ],
)
def test_a_config_that_cannot_be_read(tmp_path, text, options, said):
    (tmp_path / 'confg.py').touch()
    if text is not None:
        (tmp_path / 'config.py').write_text(text)
    with pytest.raises(ValueError if text else FileNotFoundError, match=said) as caught:
        read_config(tmp_path / 'config.py', options)
    assert '\n' not in str(caught.value)


def test_what_is_no_config(tmp_path):
    (tmp_path / 'student.pth').touch()
    with pytest.raises(ValueError, match='student.pth is no config: its name must end in .py, .yml, .yaml, .json'):
        read_config(tmp_path / 'student.pth')
    with pytest.raises(ValueError, match=r'is a folder, a config file \(\*.py\) is needed'):
        read_config(tmp_path)
