"""The C beside this file, built once with the machine's C compiler and kept in the cache."""

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from cffi import FFI

from trek_lm.files import cache_folder

FOLDER = Path(__file__).parent
# No -ffast-math: it would change how the whole process treats the smallest numbers.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing")

ffi = FFI()
ffi.cdef((FOLDER / "interface.h").read_text(encoding="utf-8"))


class _Library(NamedTuple):
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    patience: float  # seconds that a user waits for the compiler, once


LIBRARIES = {
    # Sampling takes a moment: the compiler usually needs a second, on a busy machine some. Without
    # it there is another way, which rounds otherwise, and a seed may give other lines.
    "steps": _Library(("draw.c", "steps.c"), (), 10.0),
    # Training takes minutes: which engine a run has must not hang on how busy a machine is.
    "sequences": _Library(("backward.c", "forward.c"), ("-fopenmp",), 120.0),
}


@functools.cache
def library(name: str) -> Any:
    """That of LIBRARIES for this machine, or None where it can't be built, or not in time."""
    try:
        if (compiling := begin(name)) is not None:
            compiling.wait(LIBRARIES[name].patience)
        path, _ = _build(name)
        return ffi.dlopen(str(path))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


@functools.cache
def begin(name: str) -> "subprocess.Popen[bytes] | None":
    """Starts the compiler where it is needed: what it builds is there the next time at least."""
    try:
        path, command = _build(name)
        if path.exists():
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError):
        return None  # and nothing will be there
    # Whole or not at all, whoever else builds it too.
    then = '"$@" -o "$0.$$" && mv -f "$0.$$" "$0"'
    call, quiet = ["sh", "-c", then, str(path), *command], subprocess.DEVNULL
    return subprocess.Popen(call, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def _build(name: str) -> tuple[Path, list[str]]:
    """Where it is kept, and the command that makes it.

    It is named after the sources, this compiler and this machine's processor. Raises OSError where
    there is no compiler or none is wanted, and ValueError for a CC with a quote without its other.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if os.environ.get("TREK_LM_NATIVE") == "0" or not compiler or not shutil.which(compiler[0]):
        raise FileNotFoundError("no C compiler")
    names, flags, _ = LIBRARIES[name]
    command = [*compiler, *FLAGS, *flags, "-fPIC", "-shared", *(str(FOLDER / c) for c in names)]
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))
    made_by = repr((FLAGS, flags, compiler, _processor()))
    key = hashlib.sha256(sources + made_by.encode()).hexdigest()
    return cache_folder() / f"{name}-{key[:16]}.so", [*command, "-lm"]


def _processor() -> str:
    """What decides which instructions there are: a cache may be shared by several machines."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
