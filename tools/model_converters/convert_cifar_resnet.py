"""Rename the entries of a He-style CIFAR ResNet checkpoint to those of a classifier with CifarResNet."""

import argparse
import sys
from pathlib import Path

from mmrecast.models import convert_cifar_resnet, revert_cifar_resnet
from mmrecast.models.load import state_of
from mmrecast.utils.checkpoint import load_file, save_file
from mmrecast.utils.mistakes import explain


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', type=Path, help='checkpoint to read, with or without a "state_dict" in it')
    parser.add_argument('dst', type=Path, help='file to write: a state_dict')
    parser.add_argument('--revert', action='store_true', help='the other way: backbone.* to conv1, …')
    parser.add_argument('--force', action='store_true', help='write over DST')
    return parser.parse_args(argv)


def convert(src: Path, dst: Path, revert: bool = False, force: bool = False) -> int:
    """Convert a file and return the number of entries written.

    Args:
        src (Path): Checkpoint to read.
        dst (Path): File to write; its folder must exist.
        revert (bool): Go back to He-style names. Defaults to False.
        force (bool): Write over ``dst``. Defaults to False.

    Raises:
        FileExistsError: ``dst`` exists and ``force`` is not given.
        FileNotFoundError: ``src``, or the folder of ``dst``, does not exist.
        ValueError: ``src`` is not readable, or is no checkpoint of such a network.
    """
    if dst.exists() and not force:
        raise FileExistsError(f'{dst} exists; --force writes over it')
    if not dst.absolute().parent.is_dir():
        raise FileNotFoundError(f'there is no folder {dst.absolute().parent}')
    state_dict = state_of(load_file(src), src)
    converted = (revert_cifar_resnet if revert else convert_cifar_resnet)(state_dict)
    save_file(converted, dst)
    return len(converted)


def main(argv: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line on stderr and exit status 1."""
    args = parse_args(argv)
    try:
        count = convert(args.src, args.dst, args.revert, args.force)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {explain(error)}')
    print(f'wrote {count} entries to {args.dst}')


if __name__ == '__main__':
    main()
