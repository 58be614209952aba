"""Fixtures: real corpora where they are, a small corpus everywhere, the real command line."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trek_lm import cli, sweeps
from trek_lm.interrupts import SIGNALS

# A deadline a case is a timing, and timings depend on what else the machine does.
settings.register_profile("trek-lm", deadline=None)
settings.load_profile("trek-lm")

# In the background of a shell it is ignored, and so it would be in the processes of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

PROJECT = Path(__file__).resolve().parent.parent

Cli = Callable[..., subprocess.CompletedProcess[str]]
RunHere = Callable[..., None]


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


def write_episodes(folder: Path, episodes: int = 10, lines: int = 12) -> Path:
    """A small corpus in the transcripts' format; no two lines are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for episode in range(1, episodes + 1):
        speech = "".join(
            f"{('ADA', 'BRAN')[n % 2]}: Reading {n} of watch {episode}, all {'well' * (n % 4)}.\n"
            for n in range(lines)
        )
        text = f"Episode Number: {episode}\nThe Test Transcripts - Watch\n[Bridge]\n{speech}"
        (folder / f"{episode}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small corpus, not to be changed."""
    return write_episodes(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def run_cli() -> Cli:
    """Runs a command of the project as a user would: a process of its own, no terminal."""

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


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunHere]:
    """Runs an entry point in this process: the same code, without the seconds of a new one."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}  # a sweep has its own

    def run(script: ModuleType, *arguments: str) -> None:
        monkeypatch.setattr("sys.argv", [f"{script.__name__}.py", *arguments])
        monkeypatch.setenv("HYDRA_MAIN_MODULE", "__main__")  # conf/ is found beside the file
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # cli.run sets it; restored after the test
        rewrite = getattr(script, "replay", None) or script.single
        cli.run(sweeps.concluded(script.main), script.TEXT_KEYS, rewrite)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def events_of(folder: Path) -> EventAccumulator:
    """What a run logged for TensorBoard."""
    (board,) = {path.parent for path in folder.glob("**/events.out.tfevents.*")}
    return EventAccumulator(str(board), size_guidance={"tensors": 0, "scalars": 0}).Reload()


TINY = ("model.hidden=12", "trainer.max_epochs=2", "data.batch_size=8")


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, run_cli: Cli
) -> tuple[Path, str]:
    """The working folder and the printed text of one tiny training run."""
    folder = tmp_path_factory.mktemp("trained")
    done = run_cli("train.py", "data=files", f"data.root={corpus}", *TINY, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="session")
def run_folder(trained: tuple[Path, str]) -> Path:
    """The folder of that run."""
    (metrics,) = trained[0].glob("outputs/*/*/metrics.json")
    return metrics.parent
