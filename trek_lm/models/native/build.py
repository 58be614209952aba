"""Builds the C in this folder once with the machine's compiler, and caches the libraries."""

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
# No -ffast-math: it would flush subnormal numbers to zero in the whole process.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing")

ffi = FFI()
ffi.cdef((FOLDER / "interface.h").read_text(encoding="utf-8"))


class _Library(NamedTuple):
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    timeout: float  # seconds to wait for the compiler, once


LIBRARIES = {
    # The compiler usually takes a second, on a busy machine several. PyTorch instead would round
    # differently, so that a seed may give other lines.
    "steps": _Library(("draw.c", "steps.c"), (), 10.0),
    # Training takes minutes anyway, and its engine must not depend on how busy the machine is.
    "sequences": _Library(("backward.c", "forward.c"), ("-fopenmp",), 120.0),
}


@functools.cache
def library(name: str) -> Any:
    """The library of this name in LIBRARIES, or None if it can't be built within its timeout."""
    try:
        if (compiling := start_build(name)) is not None:
            compiling.wait(LIBRARIES[name].timeout)
        path, _ = _build(name)
        return ffi.dlopen(str(path))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


@functools.cache
def start_build(name: str) -> "subprocess.Popen[bytes] | None":
    """Starts the compiler unless the library is cached; after a timeout the next process has it."""
    try:
        path, command = _build(name)
        if path.exists():
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError):
        return None  # `library` then finds none
    # Atomic, because another process may build it at the same time.
    script = '"$@" -o "$0.$$" && mv -f "$0.$$" "$0"'
    call, quiet = ["sh", "-c", script, str(path), *command], subprocess.DEVNULL
    return subprocess.Popen(call, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def _build(name: str) -> tuple[Path, list[str]]:
    """The path of a library, and the command that builds it.

    The path has a hash of the sources, the compiler and the processor. Raises OSError without a
    compiler or with TREK_LM_NATIVE=0, and ValueError for a CC with an unclosed quote.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if os.environ.get("TREK_LM_NATIVE") == "0" or not compiler or not shutil.which(compiler[0]):
        raise FileNotFoundError("no C compiler")
    names, flags, _ = LIBRARIES[name]
    command = [*compiler, *FLAGS, *flags, "-fPIC", "-shared", *(str(FOLDER / c) for c in names)]
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))
    built_with = repr((FLAGS, flags, compiler, _processor()))
    key = hashlib.sha256(sources + built_with.encode()).hexdigest()
    return cache_folder() / f"{name}-{key[:16]}.so", [*command, "-lm"]


def _processor() -> str:
    """The processor's instruction sets, because several machines may share a cache."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
