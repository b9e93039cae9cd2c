"""torchrun with its last words in a line per process: which one ended the run, how, and what it said of it.

The arguments are torchrun's (``python -m torch.distributed.run``). ``MMRECAST_DEBUG=1`` leaves it as it is.
"""

import logging
import os
import signal
import sys

import torch.distributed as torch_dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import parse_args, run

END = 5  # seconds for a process to end when it is asked to; then it is killed, one that was stopped with it


def told(rank: int, failure: ProcessFailure) -> str:
    """Return one line on a process that has failed."""
    if failure.exitcode < 0:
        how = f'was killed by {failure.signal_name()}'
        hint = ' (out of memory? its machine’s log says)' if -failure.exitcode == signal.SIGKILL else ''
        return f'rank {rank} (process {failure.pid}) {how}{hint}'
    message = failure.message if isinstance(failure.message, str) else failure.message.get('message', '')
    said = '' if failure.error_file == '<N/A>' else ': ' + ' '.join(message.split())
    return f'rank {rank} (process {failure.pid}) ended with status {failure.exitcode}{said}'


def causes(failures: dict[int, ProcessFailure]) -> list[tuple[int, ProcessFailure]]:
    """Return those of a run's failures that say why it ended, the first one first.

    A process that ended because of another one tells no more than that one does, and one that torchrun ended when a
    process had failed tells nothing.
    """
    found = sorted(failures.items(), key=lambda item: (item[1].timestamp, item[1].exitcode < 0))
    first = found[0][1].timestamp

    def by_torchrun(failure: ProcessFailure) -> bool:
        late = {signal.SIGTERM: 0, signal.SIGKILL: END - 1}  # timestamps are whole seconds
        return failure is not found[0][1] and failure.timestamp - first >= late.get(-failure.exitcode, float('inf'))

    told = [item for item in found if 'RunEnded' not in str(item[1].message) and not by_torchrun(item[1])]
    return told or found[:1]


def main() -> None:
    args = parse_args(sys.argv[1:])
    if os.environ.get('MMRECAST_DEBUG'):
        run(args)
        return
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', str(END))
    try:
        run(args)
    except ChildFailedError as error:
        for rank, failure in causes(error.failures):
            print(f'error: {told(rank, failure)}', file=sys.stderr)
        sys.exit(1)
    except torch_dist.DistNetworkError as error:
        taken = 'EADDRINUSE' in str(error)
        how = f'port {args.master_port} of {args.master_addr} is taken' if taken else ' '.join(str(error).split())
        print(
            f'error: {how}: give another one, as in PORT={int(args.master_port) + 1} dist_train.sh …', file=sys.stderr
        )
        sys.exit(2)


if __name__ == '__main__':
    main()
