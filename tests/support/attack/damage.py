"""Damages to files, each decided by a random number generator: the same seed does the same."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[bytes, bytes, random.Random], bytes]

NUMBERS = [0, 1, -1, 2, 127, 255, 256, 65535, 65536, 2**20, 2**29, 2**31 - 1, 2**31, 2**32, 2**40, 2**53,
           2**62, 2**63 - 1, -(2**63), 2**64 - 1]  # fmt: skip
VALUES: list[Any] = [None, True, False, "", "\0", "../../etc/passwd", "x" * 100_000, [], {}, [[]], 1.5, 1e308]
HEADER = 4096


def damage(path: Path, other: Path, chance: random.Random) -> None:
    """Damage the file at `path` one to three times; pieces may come from `other`."""
    content, piece = path.read_bytes(), other.read_bytes()
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        content = chance.choice(_fitting(content))(content, piece, chance)
    path.write_bytes(content)


def _fitting(content: bytes) -> list[Damage]:
    # What is about the meaning of a file goes further than what any check of its form refuses.
    if content[:2] == b"PK":
        return [*_BYTES, _zip] + 2 * len(_BYTES) * [_zip_entry]
    if content[:1] in (b"{", b"["):
        return _BYTES + 3 * len(_BYTES) * [_json]
    if content[8:9] == b"{":
        return _BYTES + len(_BYTES) * [_safetensors]
    return _BYTES


def _place(content: bytes, chance: random.Random) -> int:
    end = len(content) if chance.random() < 0.3 else min(len(content), HEADER)
    return chance.randrange(end + 1)


def _flip(content: bytes, _: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        if changed:
            changed[min(_place(content, chance), len(changed) - 1)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, _: bytes, chance: random.Random) -> bytes:
    return content[: _place(content, chance)]


def _extend(content: bytes, other: bytes, chance: random.Random) -> bytes:
    return content + chance.choice([b"\0" * 4096, b"\xff", other[: chance.randrange(len(other) + 1)]])


def _splice(content: bytes, other: bytes, chance: random.Random) -> bytes:
    at, start = _place(content, chance), _place(other, chance)
    piece = other[start : start + chance.choice([1, 16, 256, 65536])]
    return content[:at] + piece + content[at + chance.choice([0, len(piece)]) :]


def _remove(content: bytes, _: bytes, chance: random.Random) -> bytes:
    at = _place(content, chance)
    return content[:at] + content[at + chance.choice([1, 4, 8, 100]) :]


def _clear(content: bytes, _: bytes, chance: random.Random) -> bytes:
    at, length = _place(content, chance), chance.choice([4, 64, 1024])
    return (
        content[:at]
        + (chance.choice([b"\0", b"\xff"]) * length)[: len(content) - at]
        + content[at + length :]
    )


def _number(content: bytes, _: bytes, chance: random.Random) -> bytes:
    width = chance.choice([1, 2, 4, 8])
    number = struct.pack("<Q", chance.choice(NUMBERS) % 2**64)[:width]
    at = _place(content, chance)
    return content[:at] + number[: len(content) - at] + content[at + width :]


def _replace(content: bytes, other: bytes, _: random.Random) -> bytes:
    return other


_BYTES: list[Damage] = [_flip, _truncate, _extend, _splice, _remove, _clear, _number, _replace]


def _json(content: bytes, other: bytes, chance: random.Random) -> bytes:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):  # by an earlier damage
        return _flip(content, other, chance)
    for _ in range(chance.choice([1, 1, 2, 4])):
        document = _edit(document, chance)
    if chance.random() < 0.02:
        return b"[" * 100_000
    return json.dumps(document).encode()


def _edit(document: Any, chance: random.Random) -> Any:
    places = list(_places(document))
    if not places:
        return chance.choice(VALUES)
    numbers = [place for place in places if isinstance(place[0][place[1]], int)]
    holder, key = chance.choice(numbers if numbers and chance.random() < 0.6 else places)
    value = holder[key]
    kind = chance.randrange(6)
    if isinstance(value, int) and not isinstance(value, bool) and kind < 5:
        holder[key] = chance.choice([*NUMBERS, value + 1, value - 1, -value, value * 2])
    elif kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = chance.choice([*VALUES, *NUMBERS])
    elif kind == 2 and isinstance(holder, dict):
        holder[chance.choice(["", key + "x", key.upper()])] = holder.pop(key)
    elif kind == 3:
        # What stands elsewhere: another name, shape, operator or list.
        source, place = chance.choice(places)
        holder[key] = json.loads(json.dumps(source[place]))
    elif kind == 4 and isinstance(value, list):
        holder[key] = value * chance.choice([0, 2, 50])
    else:
        holder[key] = [value] if chance.random() < 0.5 else {"as_int": value}
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Everything in the document, as what holds it and its key or number there."""
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, list | dict):
            keys: Any = range(len(holder)) if isinstance(holder, list) else list(holder)
            yield from ((holder, key) for key in keys)
            waiting.extend(holder[key] for key in keys)


def _safetensors(content: bytes, other: bytes, chance: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header = _json(content[8 : 8 + length].rstrip(), other, chance)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _zip_entry(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """An entry with other bytes, under a checksum that is right."""

    def change(name: str, entry: bytes) -> bytes:
        choices = _fitting(entry)
        return chance.choice(choices)(entry, other, chance)

    return _rewritten(content, other, chance, change)


def _zip(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Entries that are missing, twice there, compressed, or have each other's names."""
    return _rewritten(content, other, chance, None)


def _rewritten(
    content: bytes, other: bytes, chance: random.Random, change: Callable[[str, bytes], bytes] | None
) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:
        return _flip(content, other, chance)
    if not entries:
        return _flip(content, other, chance)
    described = [place for place, (name, _) in enumerate(entries) if name.endswith((".json", ".pkl"))]
    place = chance.choice(described if described and chance.random() < 0.8 else range(len(entries)))
    name, entry = entries[place]
    compression = zipfile.ZIP_STORED
    if change is not None:
        entries[place] = (name, change(name, entry))
    else:
        kind = chance.randrange(5)
        second = chance.randrange(len(entries))
        if kind == 0:
            del entries[place]
        elif kind == 1:
            entries.append((name, entries[second][1]))
        elif kind == 2:
            compression = zipfile.ZIP_DEFLATED
        elif kind == 3:
            entries[place], entries[second] = (name, entries[second][1]), (entries[second][0], entry)
        else:
            entries[place] = (chance.choice(["../" + name, "/" + name, name + "\0", "é" * 1000, ""]), entry)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, entry in entries:
            try:
                archive.writestr(name, entry)
            except (ValueError, UnicodeError, OverflowError, IndexError):  # a name that zip files can't have
                continue
    return written.getvalue()
