"""What produced a run's figures: versions, processor, threads, and the commit of the code."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy")


def provenance() -> dict[str, Any]:
    """Entries for `metrics.json`, as of now: the code may change during the run."""
    versions = {f"version/{name}": version(name) for name in PACKAGES}
    commit, dirty = _commit(Path(__file__).resolve())
    return {
        "version/python": platform.python_version(),
        **versions,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "git_commit": commit,
        "git_dirty": dirty,
    }


def _commit(file: Path) -> tuple[str | None, bool | None]:
    """The commit of the repository that tracks `file`, and whether it has uncommitted changes.

    None if no repository tracks it: an installed package may be inside somebody else's.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _processor() -> str:
    """The name of the GPU, or of the CPU if there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2] for line in cpu.splitlines() if line.startswith("model name"))
    return next(names, platform.processor()).strip()
