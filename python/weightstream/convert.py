"""Weights that must be computed from stored ones (a cast, a transpose) are written once, to a side file."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from weightstream import _native, side_files
from weightstream.deferred import Deferred, fingerprint
from weightstream.errors import CheckpointError, WeightstreamError
from weightstream.memory import format_bytes
from weightstream.side_files import SideFile
from weightstream.stored import DTYPE_WORDS, Index

_logger = logging.getLogger("weightstream")

# Where a tensor begins: as aligned as freshly allocated ones are.
_ALIGNMENT = 64


def convert(tensors: Mapping[str, Deferred], contents: _native.Contents) -> tuple[SideFile, Index]:
    """Compute `tensors` into a side file, or find it there from an earlier time.

    Returns the file, held until it is closed, and its index. One tensor is in memory at a time. The file is
    reused as long as the sources are the same files, unchanged.

    Raises CheckpointError where a source changes meanwhile.
    """
    path = side_files.folder() / _key(tensors, contents)
    side = side_files.use(path) or _write(path, tensors, contents)
    return side, Index.open(path)


def _write(path: Path, tensors: Mapping[str, Deferred], contents: _native.Contents) -> SideFile:
    offsets, end = {}, 0
    for name, tensor in tensors.items():
        offsets[name] = end if tensor.nbytes else 0
        end += tensor.nbytes + -tensor.nbytes % _ALIGNMENT

    def write(folder: Path, out: IO[Any]) -> None:
        for name, tensor in tensors.items():
            with torch.no_grad():
                value = tensor.read(contents)
            if value.numel():
                out.seek(offsets[name])
                out.write(_bytes(value))
            del value
        out.flush()
        rows = [(n, DTYPE_WORDS[t.dtype], t.shape, offsets[n]) for n, t in tensors.items()]
        _native.seal(str(folder), rows)
        if _key(tensors, contents) != path.name:
            raise CheckpointError(
                f"{', '.join(contents.paths)}: expected files that stay as they are while weights are "
                "converted, got others in their place; load the model again"
            )

    _logger.info("converting %d weights (%s) once, to %s", len(tensors), format_bytes(end), path)
    path.parent.mkdir(parents=True, exist_ok=True)
    side_files.make_room(end)
    if side := side_files.make(path, write):
        return side
    raise WeightstreamError(
        f"{path}: expected converted weights as they were written, got others; "
        "the disk or its file system is failing"
    )


def _key(tensors: Mapping[str, Deferred], contents: _native.Contents) -> str:
    """What the tensors are made of and how, as a name."""
    digest = hashlib.sha256(f"packed {torch.__version__} {contents.identity()}".encode())
    for name, tensor in tensors.items():
        digest.update(name.encode() + fingerprint(tensor))
    return digest.hexdigest()[:32]


def _bytes(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
