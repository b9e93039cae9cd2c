"""Registering everything, and the default scope."""

import warnings

import pytest
from mmengine import DefaultScope
from mmengine.registry import MODELS as ROOT_MODELS

from mmrecast.registry import BLOCKS, MODELS
from mmrecast.utils.setup_env import register_all_modules


@pytest.fixture(autouse=True)
def scope_as_before():
    before = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


def test_ours_and_those_of_mmpretrain_are_registered():
    register_all_modules()
    assert 'ConvBlock' in BLOCKS.module_dict
    assert 'CifarResNet' in MODELS.module_dict
    assert ROOT_MODELS.get('mmpretrain.ImageClassifier').__module__.startswith('mmpretrain')


def test_the_default_scope_is_ours():
    DefaultScope._instance_dict.clear()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        register_all_modules()
        register_all_modules()
    assert DefaultScope.get_current_instance().scope_name == 'mmrecast'


def test_another_default_scope_is_left_on_request_or_replaced_with_a_warning():
    DefaultScope._instance_dict.clear()
    DefaultScope.get_instance('other', scope_name='mmpretrain')
    register_all_modules(init_default_scope=False)
    assert DefaultScope.get_current_instance().scope_name == 'mmpretrain'
    with pytest.warns(UserWarning, match="default scope changes from 'mmpretrain' to 'mmrecast'"):
        register_all_modules()
    assert DefaultScope.get_current_instance().scope_name == 'mmrecast'
