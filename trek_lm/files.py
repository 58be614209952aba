"""Writing a file so that it is there whole, or as it was before."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


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
    """Removes what `replacing` was writing below a folder when its process was killed.

    Only where nobody writes now.
    """
    for path in folder.rglob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole, as UTF-8."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def _disk_error(error: BaseException | None) -> OSError | None:
    """The system's error behind this one."""
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__context__
    return error
