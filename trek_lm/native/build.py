"""steps.c and draw.c, built once with the machine's C compiler and kept in the cache."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from trek_lm.data.cache import cache_folder

FOLDER = Path(__file__).parent
PATIENCE = 1.5  # seconds that a user waits for the compiler, once; usually it takes one
# No -ffast-math: it would change how the whole process treats the smallest numbers.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing")


@functools.cache
def library() -> ctypes.CDLL | None:
    """steps.c and draw.c for this machine, or None where they can't be built, or not in time."""
    try:
        if (compiling := begin()) is not None:
            compiling.wait(PATIENCE)
        path = _path()
        lib = None if path is None else ctypes.CDLL(str(path))
    except (OSError, subprocess.TimeoutExpired):
        return None
    if lib is not None:
        for name in ("step_lines", "draw_lines", "read_start"):
            getattr(lib, name).restype = None
    return lib


@functools.cache
def begin() -> "subprocess.Popen[bytes] | None":
    """Starts the compiler where it is needed; what it builds is there for the next time at least.

    Raises OSError where the cache can't be written.
    """
    path = _path()
    if path is None or path.exists():
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    built = f"{path}.{os.getpid()}"
    sources = map(str, FOLDER.glob("*.c"))
    command = [*_compiler(), *FLAGS, "-fPIC", "-shared", *sources, "-o", built, "-lm"]
    # Whole or not at all, whoever else builds it too.
    then = f"{shlex.join(command)} && mv -f {shlex.quote(built)} {shlex.quote(str(path))}"
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        ["sh", "-c", then], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )


def _path() -> Path | None:
    """Where it is kept: a name for these sources, this compiler and this machine's processor."""
    compiler = _compiler()
    if os.environ.get("TREK_LM_NATIVE") == "0" or not compiler or not shutil.which(compiler[0]):
        return None
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))
    key = hashlib.sha256(sources + repr((FLAGS, compiler, _processor())).encode()).hexdigest()
    return cache_folder() / f"steps-{key[:16]}.so"


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "cc"))


def _processor() -> str:
    """What decides which instructions there are: a cache may be shared by several machines."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
