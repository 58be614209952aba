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
PATIENCE = 2.0  # seconds that a user waits for the compiler, once; usually it takes half of one
# No -ffast-math: it would change how the whole process treats the smallest numbers.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing")


@functools.cache
def library() -> ctypes.CDLL | None:
    """steps.c and draw.c for this machine, or None where they can't be built."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if os.environ.get("TREK_LM_NATIVE") == "0" or not compiler or not shutil.which(compiler[0]):
        return None
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))
    key = hashlib.sha256(sources + repr((FLAGS, compiler, _processor())).encode()).hexdigest()
    path = cache_folder() / f"steps-{key[:16]}.so"
    try:
        if not path.exists():
            _build(compiler, path)
        lib = ctypes.CDLL(str(path))
    except (OSError, subprocess.TimeoutExpired):
        return None
    for name in ("step_lines", "draw_lines", "read_start"):
        getattr(lib, name).restype = None
    return lib


def _build(compiler: list[str], path: Path) -> None:
    """Builds it, or leaves that going on for the next time, when it takes longer than patience."""
    path.parent.mkdir(parents=True, exist_ok=True)
    built = f"{path}.{os.getpid()}"
    sources = map(str, FOLDER.glob("*.c"))
    command = [*compiler, *FLAGS, "-fPIC", "-shared", *sources, "-o", built, "-lm"]
    # Whole or not at all, whoever else builds it too.
    then = f"{shlex.join(command)} && mv -f {shlex.quote(built)} {shlex.quote(str(path))}"
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        ["sh", "-c", then], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    process.wait(PATIENCE)


def _processor() -> str:
    """What decides which instructions there are: a cache may be shared by several machines."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
