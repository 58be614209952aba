"""steps.c and draw.c, built once with the machine's C compiler and kept in the cache."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from trek_lm.data.cache import cache_folder

FOLDER = Path(__file__).parent
# No -ffast-math: it would change how the whole process treats the smallest numbers.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing")


@functools.cache
def library() -> ctypes.CDLL | None:
    """steps.c and draw.c for this machine, or None where they can't be built."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.environ.get("TREK_LM_NATIVE") == "0" or compiler is None:
        return None
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))
    key = hashlib.sha256(sources + repr((FLAGS, compiler, _processor())).encode()).hexdigest()
    path = cache_folder() / f"steps-{key[:16]}.so"
    try:
        if not path.exists():
            _build(compiler, path)
        lib = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None
    for name in ("step_lines", "draw_lines", "read_start"):
        getattr(lib, name).restype = None
    return lib


def _build(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder, path.name)
        sources = map(str, FOLDER.glob("*.c"))
        command = [compiler, *FLAGS, "-fPIC", "-shared", *sources, "-o", str(built), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        built.replace(path)  # whole or not at all, whoever else builds it too


def _processor() -> str:
    """What decides which instructions there are: a cache may be shared by several machines."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
