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
        path = _path(name)
        return None if path is None else ffi.dlopen(str(path))
    except (OSError, subprocess.TimeoutExpired):
        return None


@functools.cache
def begin(name: str) -> "subprocess.Popen[bytes] | None":
    """Starts the compiler where it is needed: what it builds is there the next time at least."""
    path = _path(name)
    try:
        if path is None or path.exists():
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # and nothing will be there
    built = f"{path}.{os.getpid()}"
    wanted = LIBRARIES[name]
    sources = (str(FOLDER / source) for source in wanted.sources)
    flags = (*FLAGS, *wanted.flags, "-fPIC", "-shared")
    command = [*_compiler(), *flags, *sources, "-o", built, "-lm"]
    # Whole or not at all, whoever else builds it too.
    then = f"{shlex.join(command)} && mv -f {shlex.quote(built)} {shlex.quote(str(path))}"
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        ["sh", "-c", then], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )


def _path(name: str) -> Path | None:
    """Where it is kept: a name for its sources, this compiler and this machine's processor."""
    compiler = _compiler()
    if os.environ.get("TREK_LM_NATIVE") == "0" or not compiler or not shutil.which(compiler[0]):
        return None
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))
    made_by = repr((FLAGS, LIBRARIES[name].flags, compiler, _processor()))
    key = hashlib.sha256(sources + made_by.encode()).hexdigest()
    return cache_folder() / f"{name}-{key[:16]}.so"


def _compiler() -> list[str]:
    try:
        return shlex.split(os.environ.get("CC", "cc"))
    except ValueError:  # a quote without its other
        return []


def _processor() -> str:
    """What decides which instructions there are: a cache may be shared by several machines."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
