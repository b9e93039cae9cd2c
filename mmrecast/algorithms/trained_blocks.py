"""Blocks that were trained apart from the run that takes them, each in a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr

from torch import Tensor, nn

from mmrecast.algorithms.joining import load_block
from mmrecast.surgery.plan import Plan
from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.digests import digest_tensors
from mmrecast.utils.names import nearest
from mmrecast.utils.plain import is_plain

SHORT = Repr()  # of what a file from somewhere says
SHORT.maxdict, SHORT.maxstring = 8, 80


@dataclass(frozen=True)
class TrainedBlock:
    """A target, and what it changed in the teacher.

    Args:
        teacher (str): Digest of the teacher's weights.
        block (str): Path of the block.
        target (dict): Its complete config, as in a plan.
        state (dict[str, Tensor]): The block's tensors, and those elsewhere that it takes (what reads a narrow one), by
            their names in the student.
        about (dict): What was noted of its training.
    """

    teacher: str
    block: str
    target: dict
    state: dict[str, Tensor]
    about: dict


def read_trained_block(path: str | Path) -> TrainedBlock:
    """Read a file that `tools/plan.py --train-images` left.

    Raises:
        FileNotFoundError, ValueError: As `load_file`; or it holds something else.
    """
    content = load_file(path)
    kinds = dict(teacher=str, block=str, target=Mapping, state=Mapping, about=Mapping)
    if not isinstance(content, Mapping) or set(content) != set(kinds):
        raise ValueError(f'{path} is no block that was trained apart (keys: {", ".join(kinds)})')
    for name, kind in kinds.items():
        if not isinstance(content[name], kind):
            raise ValueError(f'{path}: {name} is a {type(content[name]).__name__}, not a {kind.__name__}')
    if not is_plain([content['target'], content['about']]):
        raise ValueError(f'{path}: target and about must be plain data')
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content['state'].items()):
        raise ValueError(f'{path}: state must hold tensors by name')
    return TrainedBlock(
        content['teacher'], content['block'], dict(content['target']), dict(content['state']), dict(content['about'])
    )


class TrainedBlocks:
    """The blocks of a plan that begin as they were trained before.

    Args:
        files (Mapping[str, str]): File by the block's path.
        plan (Plan): The plan.
        teacher (nn.Module): The teacher.

    Raises:
        FileNotFoundError, ValueError: A file cannot be read, was made for another teacher, or for another target.
    """

    def __init__(self, files: Mapping[str, str] | None, plan: Plan, teacher: nn.Module) -> None:
        files = {} if files is None else files
        if not isinstance(files, Mapping) or not all(isinstance(x, str | Path) for one in files.items() for x in one):
            raise ValueError(f'trained_blocks must be files by the paths of their blocks, got {files!r}')
        entries = {plan.entries[i].path: plan.entries[i] for i in plan.steps}
        own = digest_tensors(teacher) if files else ''
        self._blocks: dict[str, TrainedBlock] = {}
        for path, file in files.items():
            if path not in entries:
                raise ValueError(f'trained_blocks: the recipe recasts no block {path!r}{nearest(path, entries)}')
            block = read_trained_block(file)
            if block.teacher != own:
                raise ValueError(f'trained_blocks: {file} was trained for a teacher with other weights than this one')
            if (block.block, block.target) != (path, dict(entries[path].target)):
                raise ValueError(
                    f'trained_blocks: {file} holds {SHORT.repr(block.block)} as {SHORT.repr(block.target)}, '
                    f'the recipe makes {path} {dict(entries[path].target)}'
                )
            self._blocks[path] = block

    def __contains__(self, path: str) -> bool:
        return path in self._blocks

    def load(self, student: nn.Module, path: str) -> None:
        """Give the block at ``path`` of a student, and what reads it, the weights of its file.

        Raises:
            ValueError: A tensor has another shape in the student.
        """
        load_block(student, path, self._blocks[path].state)

    def fingerprint(self) -> dict:
        """Return a digest of every block's tensors by path; nothing where there is no block."""
        digests = {path: digest_tensors(block.state) for path, block in self._blocks.items()}
        return dict(trained_blocks=digests) if digests else {}
