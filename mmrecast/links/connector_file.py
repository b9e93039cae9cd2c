"""Files of pre-trained connectors: what a ``pretrain`` stage leaves and another run starts from."""

from torch import nn

from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.digests import digest_tensors

FORMAT = 'mmrecast connector'


def connector_content(connector: nn.Module, teacher: nn.Module | None) -> dict:
    """Return what the file of a connector holds: its weights, and the digest of the teacher it was trained on."""
    weights = {name: value.detach().cpu() for name, value in connector.state_dict().items()}
    return dict(format=FORMAT, weights=weights, teacher=None if teacher is None else digest_tensors(teacher))


def load_connector(connector: nn.Module, path: str, name: str, teacher: nn.Module | None) -> None:
    """Load a connector that an earlier run pre-trained.

    Args:
        connector (nn.Module): Gets the weights.
        path (str): The file.
        name (str): The connector's name, for messages.
        teacher (nn.Module, optional): The teacher of this run, which must be that of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no file of a connector, belongs to another teacher, or does not fit.
    """
    content = load_file(path)
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise ValueError(f"connector {name!r}: {path} is no file of a connector: a run's pretrain stage leaves one")
    theirs = content.get('teacher')
    if teacher is not None and theirs is not None and theirs != digest_tensors(teacher):
        raise ValueError(f'connector {name!r}: {path} was trained on another teacher (or on other weights of it)')
    try:
        connector.load_state_dict(content.get('weights'), strict=True)
    except Exception as error:  # as weights there may be anything
        raise ValueError(f'connector {name!r}: {path} does not fit: {" ".join(str(error).split())[:300]}') from error
