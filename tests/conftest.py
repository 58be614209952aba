"""Fixtures: real corpora where available, a small corpus, commands, a trained run."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from filelock import FileLock
from hydra._internal.hydra import Hydra
from hypothesis import settings

from tests.support.commands import PROJECT, TINY, Cli, RunHere
from tests.support.corpora import write_episodes
from trek_lm import cli
from trek_lm.runs import sweep
from trek_lm.signals import SIGNALS

# Deadlines depend on the machine's load.
settings.register_profile("trek-lm", deadline=None)
settings.load_profile("trek-lm")

# A shell's background jobs ignore SIGINT, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """One thread per pytest-xdist worker: more would compete for the cores."""
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora: $TREK_LM_DATA, else shared/data beside the project."""
    folder = Path(os.environ.get("TREK_LM_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real corpora here: set TREK_LM_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def tos(real_data: Path) -> Path:
    """The 79 transcripts of Star Trek: The Original Series."""
    return real_data / "startrek" / "tos"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small corpus; tests must not change it."""
    return write_episodes(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def run_cli() -> Cli:
    """Runs a command in a new process, without a terminal."""

    def run(
        script: str, *arguments: str, cwd: Path, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(PROJECT / script), *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )

    return run


@pytest.fixture(scope="session")
def run_here() -> RunHere:
    """Runs an entry point in this process, which saves the seconds of starting a new one."""

    def run(script: ModuleType, *arguments: str) -> None:
        handlers = {number: signal.getsignal(number) for number in SIGNALS}  # a sweep replaces them
        rewrite = getattr(script, "replay", None) or script.refuse_sweep
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.argv", [f"{script.__name__}.py", *arguments])
                patch.setenv("HYDRA_MAIN_MODULE", "__main__")  # conf/ is found beside the file
                patch.setenv("HYDRA_FULL_ERROR", "0")  # cli.run sets it
                patch.setenv("COLUMNS", "200")
                if not any(re.match(r"sweep=|hydra\.(mode|search)", word) for word in arguments):
                    # Saves composing the config a first time, only to see whether it is a sweep's.
                    patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
                cli.run(sweep.with_leaderboard(script.main), script.TEXT_KEYS, rewrite)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    return run


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, run_cli: Cli
) -> tuple[Path, str]:
    """The working folder and the printed text of one tiny run, shared by pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, printed = base / "trained", base / "trained.txt"
    with FileLock(base / "trained.lock"):
        if not printed.exists():
            folder.mkdir()
            done = run_cli("train.py", "data=files", f"data.root={corpus}", *TINY, cwd=folder)
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout, encoding="utf-8")
    return folder, printed.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def run_folder(trained: tuple[Path, str]) -> Path:
    """The folder of that run."""
    (metrics,) = trained[0].glob("outputs/*/*/metrics.json")
    return metrics.parent
