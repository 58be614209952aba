"""Files: paths with `~`, reads with a size limit, atomic writes."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trek_lm.errors import UserError


def expanded(path: str | Path) -> Path:
    """The path with `~` expanded; raises UserError for an unknown user, and for no path."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: no such user; give the path without ~") from error
    except TypeError as error:
        raise UserError(f"{path}: not a path; give that of a file or folder") from error


def cache_folder() -> Path:
    """$TREK_LM_CACHE, else the user's cache folder."""
    if given := os.environ.get("TREK_LM_CACHE"):
        return expanded(given)
    import pooch  # imported here because it takes half a second

    return Path(pooch.os_cache("trek-lm"))


def read_bounded(path: Path, largest: int) -> bytes:
    """The content of a file of at most `largest` bytes.

    Raises OSError for a larger file, and for pipes and devices, which may never end.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"more than {largest:,} bytes", str(path))
    return content


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces `path` once it is closed and on the disk.

    Raises OSError that names `path` if the disk fails, such as a full one.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns the first into the second
        if disk := _disk_error(error):
            raise OSError(disk.errno, disk.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):  # the first failure is the one to report
            temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # without it a power failure may lose the new name
    finally:
        os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that killed processes left in a run's folder.

    No other process may be writing there.
    """
    for path in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically, with a question mark for what UTF-8 can't encode."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "replace"))


def _disk_error(error: BaseException | None) -> OSError | None:
    """The operating system's error that led to this one, if there is one."""
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__context__
    return error
