"""Make every attack of the torture suite, and count what survived.

A file that is there already keeps the families that this call leaves out, so that they can be made one by one.

Example: ``python tests/torture/run.py --out docs/results/torture.json``
"""

import argparse
import json
import multiprocessing
import shlex
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.attack import Attack, Family  # noqa: E402  (found by the line above)
from torture.families import FAMILIES  # noqa: E402

from mmrecast.engine.hooks import machine  # noqa: E402
from mmrecast.utils.checkpoint import write_json  # noqa: E402
from mmrecast.utils.setup_env import register_all_modules  # noqa: E402
from mmrecast.utils.versions import made_with  # noqa: E402


def attempt(attack: Attack) -> str | None:
    """Make an attack; return None where it was survived, else what broke."""
    with tempfile.TemporaryDirectory(prefix='torture_') as folder:
        try:
            attack.make(Path(folder))
        except KeyboardInterrupt:
            raise
        except BaseException:
            return traceback.format_exc(limit=-3)
    return None


def prepare() -> None:
    """Make a process ready for attacks."""
    torch.set_num_threads(1)
    register_all_modules()


def attempt_in(family: str, number: int) -> str | None:
    """Make an attack that another process asks for."""
    return attempt(next(one for one in FAMILIES if one.name == family).attacks[number])


def campaign(family: Family, kinds: str = '', jobs: int = 1) -> dict:
    """Make the attacks of a family whose kind contains ``kinds``, ``jobs`` at a time, and return what came of them."""
    chosen = [attack for attack in family.attacks if kinds in attack.kind]
    attempts, survived, lost = Counter(), Counter(), []
    begin = time.perf_counter()
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn'), prepare) if jobs > 1 else None
    numbers = [family.attacks.index(attack) for attack in chosen]
    outcomes = map(attempt, chosen) if pool is None else pool.map(attempt_in, [family.name] * len(numbers), numbers)
    for number, (attack, said) in enumerate(zip(chosen, outcomes, strict=True), 1):
        attempts[attack.kind] += 1
        survived[attack.kind] += said is None
        if said is not None:
            lost.append(dict(kind=attack.kind, seed=attack.seed, said=said))
        state = 'survived' if said is None else f'LOST\n{said}'
        print(f'{family.name} {number}/{len(chosen)} {attack.kind}, seed {attack.seed}: {state}', flush=True)
    if pool is not None:
        pool.shutdown()
    return dict(
        promise=family.promise,
        attempts=attempts.total(),
        survived=survived.total(),
        seconds=round(time.perf_counter() - begin, 1),
        kinds={kind: dict(attempts=n, survived=survived[kind]) for kind, n in attempts.items()},
        lost=lost,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [family.name for family in FAMILIES]
    parser.add_argument('--only', nargs='+', choices=names, default=names, help='families (all)')
    parser.add_argument('--kind', default='', help='only the attacks whose kind contains this; nothing is written')
    parser.add_argument('--jobs', type=int, default=1, help='attacks of a family at a time (1)')
    parser.add_argument('--out', type=Path, help='JSON file for the counts')
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f'--jobs must be at least 1, got {args.jobs}')
    prepare()
    content = json.loads(args.out.read_text()) if args.out and args.out.is_file() else {}
    for family in [family for family in FAMILIES if family.name in args.only]:
        result = campaign(family, args.kind, args.jobs)
        about = dict(command=f'python {shlex.join(sys.argv)}', machine=machine())
        about |= dict(versions=made_with())
        content[family.name] = about | result
        print(f'{family.name}: {result["survived"]} of {result["attempts"]} survived', flush=True)
        if args.out and not args.kind:
            write_json({name: content[name] for name in names if name in content}, args.out)
    sys.exit(any(content[name]['survived'] < content[name]['attempts'] for name in args.only))


if __name__ == '__main__':
    main()
