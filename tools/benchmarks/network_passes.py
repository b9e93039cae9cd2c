"""Time the teacher's pass and the student's training pass of a recasting in several forms, in turns.

Forms are the layout of the images in memory, the precision, and BN folded into the teacher's convolutions. The
student's pass is forward, cross entropy, backward and Adam; data and hooks are not in it. Images are random.

    OMP_NUM_THREADS=1 python tools/benchmarks/network_passes.py --out docs/results/network_passes_cpu.json
"""

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from conditions import conditions, keep_memory, spread
from torch import nn
from torch.nn import functional as F

from mmrecast.analysis.fold_bn import fold_bn
from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.tables import render_table
from mmrecast.surgery.apply import replay
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.student_file import build_source
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules

CONFIG = Path(__file__).parents[2] / 'configs/distill/recasting/recasting_resnet56_convnet_cifar10-fast.py'


@dataclass(frozen=True)
class Form:
    """How passes are computed.

    Args:
        name (str): For people.
        channels_last (bool): Whether images have their channels innermost in memory.
        bf16 (bool): Whether passes run under bfloat16's autocast.
        folded (bool): Whether the teacher's BN is folded.
    """

    name: str
    channels_last: bool = False
    bf16: bool = False
    folded: bool = False


FORMS = (
    Form('channels first'),
    Form('channels last', channels_last=True),
    Form('channels last, BN folded', channels_last=True, folded=True),
    Form('channels first, bf16', bf16=True),
    Form('channels last, bf16', channels_last=True, bf16=True),
)


def passes(form: Form, teacher: nn.Module, student: nn.Module, batch_size: int) -> dict[str, Callable[[], None]]:
    """Return the teacher's and the student's pass in a form; the networks are copied."""
    teacher, student = copy.deepcopy(teacher).eval(), copy.deepcopy(student).train()
    shape = (3, 32, 32)
    if form.folded:
        fold_bn(teacher, shape)
    optimizer = torch.optim.Adam(student.parameters(), 1e-3, fused=True)
    images, labels = torch.randn(batch_size, *shape), torch.randint(10, (batch_size,))
    if form.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)

    def taught() -> None:
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=form.bf16):
            teacher(images)

    def learnt() -> None:
        with torch.autocast('cpu', torch.bfloat16, enabled=form.bf16):
            logits = student(images)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return dict(teacher=taught, student=learnt)


def measure(batch_size: int, rounds: int, forms: Sequence[Form] = FORMS) -> list[dict]:
    """Return, per form and network, the milliseconds of a pass and its ratio to the first form's, in turns."""
    cfg = read_config(CONFIG)
    teacher, _ = build_source(cfg.teacher)
    student = replay(copy.deepcopy(teacher), make_plan(teacher, cfg.recipe, (3, 32, 32)))
    todo = {(form.name, who): run for form in forms for who, run in passes(form, teacher, student, batch_size).items()}
    took: dict[tuple[str, str], list[float]] = {key: [] for key in todo}
    for turn in range(rounds + 1):
        for key, run in todo.items():
            begun = time.perf_counter()
            run()
            if turn:  # the first one pays for memory and kernels
                took[key].append((time.perf_counter() - begun) * 1000)
    rows = []
    for form in forms:
        row = asdict(form)
        for who in ('teacher', 'student'):
            own, first = took[form.name, who], took[forms[0].name, who]
            ratio = spread([a / b for a, b in zip(first, own, strict=True)])
            row[who] = dict(ms=round(median(own), 1), times_as_fast=ratio)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, default=128, help='images of a pass (128)')
    parser.add_argument('--rounds', type=int, default=7, help='measured rounds (7)')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(batch_size=args.batch_size, rounds=args.rounds)
        register_all_modules()
        about = conditions() | dict(memory_kept=keep_memory(), batch_size=args.batch_size, rounds=args.rounds)
        rows = measure(args.batch_size, args.rounds)
    columns = ['form', 'teacher, ms', 'times as fast', 'student, ms', 'times as fast ']
    table = [
        [r['name'], *(x for who in ('teacher', 'student') for x in (r[who]['ms'], f'{r[who]["times_as_fast"][0]:.2f}'))]
        for r in rows
    ]
    print(render_table(columns, table, right=columns[1:]).rstrip())
    if args.out:
        write_json(about | dict(forms=rows), args.out)


if __name__ == '__main__':
    main()
