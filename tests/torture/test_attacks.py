"""The short attacks of every family; ``run.py`` beside this makes all of them."""

import pytest
from torture.families import FAMILIES

SHORT = [
    pytest.param(attack, id=f'{family.name}: {attack.kind} {attack.seed}')
    for family in FAMILIES
    for attack in family.attacks
    if attack.short
]


@pytest.mark.parametrize('attack', SHORT)
def test_the_promise_holds(attack, tmp_path):
    attack.make(tmp_path)
