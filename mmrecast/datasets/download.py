"""Download of a file that appears whole and verified, or not at all."""

import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from mmengine.logging import print_log

from mmrecast.utils.checkpoint import _replace as replace_file

from .official import md5_hash

TIMEOUT_S = 60
CHUNK_BYTES = 1 << 20


def download(url: str, path: Path, md5: str) -> None:
    """Fetch ``url`` into ``path``.

    Args:
        url (str): Address, any scheme that ``urllib`` opens.
        path (Path): Where the file goes; its folder is made where it is missing.
        md5 (str): Expected md5 of the content.

    Raises:
        OSError: The address cannot be reached, or the folder not written to.
        ValueError: What came has another md5; nothing is kept.
    """
    print_log(f'downloading {url} to {path}', 'current')
    replace_file(path, lambda file: _fetch(url, file, path, md5))


def _fetch(url: str, file: BinaryIO, path: Path, md5: str) -> None:
    digest = md5_hash()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            while chunk := response.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, 'reason', None) or error
        raise OSError(f'{url} could not be downloaded ({reason}); or put the file at {path} yourself') from error
    if digest.hexdigest() != md5:
        found = f'md5 {digest.hexdigest()} ({file.tell():,} bytes)'
        raise ValueError(f'{url} came with {found}, expected {md5}; it was not kept')
