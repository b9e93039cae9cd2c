"""Blocks that train apart: each on one process, none waiting for another, joined when all are done.

::

    parallel stages ─▶ which blocks are there already? ─▶ share the others out ─▶ train, write ─▶ gather ─▶ join
                           WORK_DIR/blocks                    longest first         BLOCK.pth      all processes

What a block becomes depends on the seed and on the block, not on the process that trains it or how many there are:
from the state "the teacher everywhere but here", on whole batches, without a word between processes. Between runs on
other numbers of processes weights are equal bit for bit where each process computes with as many threads; else they
differ by the order of summation.

There is a record per block, as of blocks in turn: its images, its relative error given the teacher's input, and its
seconds, which are those of the process that trained it and add up to the work of all. The accuracy is measured once,
behind the join, and stands in the last block's record.

A block is written when it is done, and a run that is resumed trains those that are not, on however many processes it
has; one that was stopped within its training begins again. Each process reads and writes the work dir that it sees;
that the processes of several machines see one is of use, but not needed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as torch_dist
from mmengine.dist import get_dist_info, is_distributed
from torch import Tensor

from mmrecast.engine.checkpoints import seed_everything
from mmrecast.engine.disk import going_on
from mmrecast.utils.checkpoint import load_file, save_file
from mmrecast.utils.digests import digest, digest_tensors
from mmrecast.utils.plain import is_plain

FOLDER = 'blocks'
PATIENCE = timedelta(hours=24)  # for a process whose blocks take longer than one's own; a killed one is noticed at once


def train_blocks(loop: Any, indices: Sequence[int], resumed: bool) -> list[dict]:
    """Train what is not done of some parallel stages, and join all of it into the student of every process.

    Args:
        loop (StagedLoop): The loop of the run, which stands before the first of the stages.
        indices (list[int]): The stages, in their order.
        resumed (bool): Whether blocks in the work dir are this run's; else they are removed.

    Returns:
        list[dict]: Their records.

    Raises:
        RuntimeError: A process was lost meanwhile.
        ValueError: A block does not fit the student.
    """
    folder, log = Path(loop.runner.work_dir, FOLDER), loop.runner.logger
    rank, processes = get_dist_info()
    log.info(f'{len(indices)} blocks train apart; processes: {processes}')
    group = torch_dist.new_group(backend='gloo', timeout=PATIENCE) if is_distributed() else None
    loops = {index: loop.apart(index) for index in indices}
    blocks = {}
    for index, own in loops.items():
        path = _path(folder, own)
        try:
            if resumed:
                blocks[index] = read_block(path, own.block_fingerprint())
            else:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue
        except ValueError as error:
            log.warning(f'a block trains again: {error}')
    done = set().union(*_gathered(set(blocks), group, folder))
    # A step of a later block runs more of the teacher.
    left = {i: (i + 1) * own.stage.total_iters(len(own.dataloader)) for i, own in loops.items() if i not in done}
    log.info(f'blocks that are done: {len(done)}, blocks to train: {len(left)}')
    for index in shared_out(left, processes)[rank]:
        blocks[index] = _trained(loops[index], folder)
    joined: dict[int, dict] = {}
    for part in _gathered(blocks, group, folder):
        joined = part | joined
    for index in indices:
        loop.model.join(loop.stages[index], joined[index]['state'])
    return [joined[index]['record'] | dict(index=index) for index in indices]


def shared_out(costs: Mapping[int, float], processes: int) -> list[list[int]]:
    """Share work out: what takes longest first, each piece to the process that has least to do.

    Args:
        costs (Mapping[int, float]): What each piece takes, in any unit.
        processes (int): How many there are.

    Returns:
        list[list[int]]: Pieces per process, in the order in which it does them.
    """
    pieces: list[list[int]] = [[] for _ in range(processes)]
    loads = [0.0] * processes
    for piece in sorted(costs, key=lambda piece: (-costs[piece], piece)):
        least = loads.index(min(loads))
        pieces[least].append(piece)
        loads[least] += costs[piece]
    return pieces


def read_block(path: Path, fingerprint: dict) -> dict:
    """Read a block that was trained apart.

    Args:
        path (Path): Its file.
        fingerprint (dict): What it must have been trained with.

    Returns:
        dict: ``fingerprint``, ``record``, ``state`` (tensors by name) and their ``digest``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, something else than a block, or was trained with something else.
    """
    content = load_file(path)
    keys = {'fingerprint', 'record', 'state', 'digest'}
    if not isinstance(content, dict) or set(content) != keys:
        raise ValueError(f'{path} holds no block that was trained apart')
    theirs = content['fingerprint']
    theirs = theirs if isinstance(theirs, dict) and is_plain(theirs) else {}
    different = sorted(key for key in {*fingerprint, *theirs} if fingerprint.get(key) != theirs.get(key))
    if different:
        raise ValueError(f'{path} was written with another {", ".join(different)}')
    state = content['state']
    sound = (
        isinstance(state, dict)
        and isinstance(content['record'], dict)
        and all(isinstance(value, Tensor) for value in state.values())
    )
    if not sound or content['digest'] != _digest(content['record'], state):
        raise ValueError(f'{path} is damaged: its digest is not that of what it holds')
    return content


def _path(folder: Path, own: Any) -> Path:
    return folder / f'{own.stage.block}.pth'


def _trained(own: Any, folder: Path) -> dict:
    """Train the block of a loop that stands apart, and write it."""
    seed = hashlib.sha256(f'{own.runner.seed} {own.stage.block}'.encode()).digest()
    seed_everything(int.from_bytes(seed[:4], 'big'))
    fingerprint = own.block_fingerprint()  # of where it begins
    record, state = own.train_alone()
    content = dict(fingerprint=fingerprint, record=record, state=state, digest=_digest(record, state))
    with going_on(own.runner):  # it is in memory, to be joined
        save_file(content, _path(folder, own))
        own.runner.logger.info(f'{_path(folder, own)} written')
    return content


def _digest(record: dict, state: Mapping[str, Tensor]) -> str:
    return digest([record, digest_tensors(state)])


def _gathered(item: object, group: Any, folder: Path) -> list:
    """Return what every process gives.

    Raises:
        RuntimeError: A process does not answer.
    """
    if group is None:
        return [item]
    items = [None] * torch_dist.get_world_size(group)
    try:
        torch_dist.all_gather_object(items, item, group=group)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise RuntimeError(
            f'a process was lost while blocks trained apart ({reason}); '
            f'those that are done lie in {folder}: go on with --resume'
        ) from error
    return items
