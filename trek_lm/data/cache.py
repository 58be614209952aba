"""Large corpora, kept as they were read."""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from trek_lm.data.lines import Episode, Reading, Report
from trek_lm.files import cache_folder, write_text

Content = tuple[list[Episode], Report]

LARGE = 16 * 2**20  # bytes of transcripts; fewer are read again sooner than one could notice
KEPT = 4  # corpora; the oldest goes


def cached(paths: list[Path], root: Path, reading: Reading, read: Callable[[], Content]) -> Content:
    """What `read()` gives, for a large corpus from the cache where the same one was read before.

    The same: file names and contents, how they are to be read, and the code that reads them.
    """
    if sum(path.stat().st_size for path in paths) < LARGE:
        return read()
    folder = cache_folder() / "corpora"
    entry = folder / f"{_key(paths, root, reading)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # else it is read anew
        return _load(entry)
    content = read()
    with contextlib.suppress(OSError):  # no room, no permission: a cache is no necessity
        folder.mkdir(parents=True, exist_ok=True)
        _store(entry, content)
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


def _store(entry: Path, content: Content) -> None:
    episodes, report = content
    write_text(entry, json.dumps({"report": vars(report), "episodes": episodes}))


def _load(entry: Path) -> Content:
    content = json.loads(entry.read_bytes())
    report = Report(**content["report"])
    for name in ("formats", "speakers", "skipped"):
        setattr(report, name, Counter(getattr(report, name)))
    return [Episode(*episode) for episode in content["episodes"]], report
