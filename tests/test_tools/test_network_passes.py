"""The passes of both networks in several forms."""

import json
from pathlib import Path

import torch

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmarks' / 'network_passes.py'


def test_every_form_is_timed_against_the_first(call, loaded, tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, 'keep_memory', lambda: True)  # it would stay so for other tests
    out = tmp_path / 'passes.json'
    status, said, _ = call('--batch-size', 2, '--rounds', 1, '--out', out)
    content = json.loads(out.read_text())
    assert status == 0 and [row['name'] for row in content['forms']] == [form.name for form in tool.FORMS]
    assert content['forms'][0]['teacher']['times_as_fast'] == [1, 1, 1]
    assert all(row[who]['ms'] > 0 for row in content['forms'] for who in ('teacher', 'student'))
    assert said.count('bf16') == 2 and {'command', 'machine', 'versions'} <= set(content)


def test_a_form_changes_how_and_not_what_is_computed(loaded, tool):
    """The teacher's logits of all forms agree; only the student's pass changes weights."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 10),
    )  # fmt: skip
    before = network.state_dict()['0.weight'].clone()
    for form in tool.FORMS:
        for run in tool.passes(form, network, network, 2).values():
            run()
    assert torch.equal(network.state_dict()['0.weight'], before)


def test_refused(call, loaded, tool):
    status, _, error = call('--rounds', 0)
    assert status == 2 and 'rounds' in error
