"""Files of users: named as a shell would, read within bounds, written whole or not at all."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trek_lm.errors import UserError


def expanded(path: str | Path) -> Path:
    """A path with `~` written out; raises UserError for a user who isn't known, and for no path."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: nobody of that name has a folder here") from error
    except TypeError as error:
        raise UserError(f"{path}: no path of a file or folder") from error


def cache_folder() -> Path:
    """$TREK_LM_CACHE, else the user's cache folder."""
    if given := os.environ.get("TREK_LM_CACHE"):
        return expanded(given)
    import pooch  # half a second that only who needs the folder waits for

    return Path(pooch.os_cache("trek-lm"))


def read_bounded(path: Path, largest: int) -> bytes:
    """What is in a file of at most so many bytes.

    Raises OSError for a larger one, and for pipes and devices, which may never come to an end.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"more than {largest:,} bytes", str(path))
    return content


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write; once it is closed and on the disk it takes the place of `path`.

    Raises OSError that names `path` where the disk fails, a full one say.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer makes the second of the first
        if disk := _disk_error(error):
            raise OSError(disk.errno, disk.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):  # what failed before is what is told
            temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else the name may be lost with the power
    finally:
        os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Removes what `replacing` was writing in a run's folder when its process was killed.

    Only where nobody writes now.
    """
    for path in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole, as UTF-8, with a question mark for what that can't write."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "replace"))


def _disk_error(error: BaseException | None) -> OSError | None:
    """The system's error behind this one."""
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__context__
    return error
