"""Caches large corpora on disk after they were read."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from trek_lm.data.lines import Episode, Reading, Report
from trek_lm.files import cache_folder, write_text

Content = tuple[list[Episode], Report]
_CONTENT = TypeAdapter(Content)

LARGE = 16 * 2**20  # bytes of transcripts; smaller corpora are fast to read again
KEPT = 4  # corpora; the oldest is deleted


def cached(paths: list[Path], root: Path, reading: Reading, read: Callable[[], Content]) -> Content:
    """The result of `read()`; for a large corpus it is cached on disk.

    The key is a hash of the file names and contents, the reading settings and the reading code.
    """
    if sum(path.stat().st_size for path in paths) < LARGE:
        return read()
    folder = cache_folder() / "corpora"
    entry = folder / f"{_key(paths, root, reading)}.json"
    with contextlib.suppress(OSError, ValueError):  # no entry, or a damaged one
        return _CONTENT.validate_python(json.loads(entry.read_bytes()))
    content = read()
    with contextlib.suppress(OSError):  # no space or no permission: the cache is optional
        folder.mkdir(parents=True, exist_ok=True)
        write_text(entry, json.dumps([content[0], vars(content[1])]))
        newest_first = sorted(folder.glob("*.json"), key=os.path.getmtime, reverse=True)
        for old in newest_first[KEPT:]:
            old.unlink()
    return content


def _key(paths: list[Path], root: Path, reading: Reading) -> str:
    digest = hashlib.sha256(repr(reading).encode())
    readers = [(path.name, path) for path in sorted(Path(__file__).parent.rglob("*.py"))]
    for name, path in [*readers, *((str(path)[len(str(root)) :], path) for path in paths)]:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(f"\0{name}\0".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()
