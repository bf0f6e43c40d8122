"""Weights that must be computed from stored ones (a cast, a transpose) are written once, to a side file."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from weightstream import _native, side_files
from weightstream.deferred import Deferred, fingerprint
from weightstream.memory import format_bytes
from weightstream.stored import DTYPE_WORDS, Stored

_logger = logging.getLogger("weightstream")


def convert(tensors: Mapping[str, Deferred], contents: _native.Contents) -> tuple[IO[Any], dict[str, Stored]]:
    """Compute `tensors` into a side file, or find it there from an earlier time.

    Returns the file, which stays as long as it is open, and where each tensor lies in it, as parts of file 0.
    One tensor is in memory at a time. The file is reused as long as the sources keep their path, size and
    time of change.
    """
    header, layout, size = _layout(tensors)
    path = side_files.folder() / f"{_key(tensors, contents)}.safetensors"
    file = side_files.use(path, size)
    while file is None:  # again where another process has replaced it by its own
        _logger.info("converting %d weights (%s) once, to %s", len(tensors), format_bytes(size), path)
        path.parent.mkdir(parents=True, exist_ok=True)
        side_files.make_room(size)
        file = _write(path, header, tensors, contents)
    return file, layout


def _layout(tensors: Mapping[str, Deferred]) -> tuple[bytes, dict[str, Stored], int]:
    entries, offsets, end = {}, {}, 0
    for name, tensor in tensors.items():
        word = DTYPE_WORDS[tensor.dtype]
        entries[name] = {"dtype": word, "shape": tensor.shape, "data_offsets": (end, end + tensor.nbytes)}
        offsets[name] = end
        end += tensor.nbytes
    text = json.dumps(entries).encode()
    # Direct reads like aligned data; the format allows spaces behind the header.
    text += b" " * (-(len(text) + 8) % 4096)
    begin = 8 + len(text)
    layout = {
        name: Stored(t.dtype, t.shape, ((0, begin + offsets[name], t.nbytes),) if t.nbytes else ())
        for name, t in tensors.items()
    }
    return len(text).to_bytes(8, "little") + text, layout, begin + end


def _key(tensors: Mapping[str, Deferred], contents: _native.Contents) -> str:
    digest = hashlib.sha256(torch.__version__.encode())
    for file in contents.paths:
        status = os.stat(file)
        digest.update(repr((os.path.abspath(file), status.st_size, status.st_mtime_ns)).encode())
    for name, tensor in tensors.items():
        digest.update(name.encode() + fingerprint(tensor))
    return digest.hexdigest()[:32]


def _write(
    path: Path, header: bytes, tensors: Mapping[str, Deferred], contents: _native.Contents
) -> IO[Any] | None:
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as out:
        try:
            side_files.hold(out)
            out.write(header)
            for tensor in tensors.values():
                with torch.no_grad():
                    value = tensor.read(contents)
                if value.numel():
                    out.write(memoryview(value.reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
                del value
            out.flush()
            os.fsync(out.fileno())
            os.replace(out.name, path)
        except BaseException:
            os.unlink(out.name)
            raise
        # Opened before the writer's own lock goes with `out`.
        return side_files.use(path, os.fstat(out.fileno()).st_size)
