"""Real corpora where they are, a small corpus and model everywhere, the real command line."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import settings
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trek_lm import cli
from trek_lm.data.charset import Charset
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.runs import sweep
from trek_lm.signals import SIGNALS
from trek_lm.training.hardware import quiet
from trek_lm.training.module import CharModule
from trek_lm.training.schedules import exponential

# A deadline a case is a timing, and timings depend on what else the machine does.
settings.register_profile("trek-lm", deadline=None)
settings.load_profile("trek-lm")

# In the background of a shell it is ignored, and so it would be in the processes of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

PROJECT = Path(__file__).resolve().parent.parent

Cli = Callable[..., subprocess.CompletedProcess[str]]
RunHere = Callable[..., None]


def pytest_configure(config: pytest.Config) -> None:
    """pytest-xdist's processes have a core each: threads of both would wait for one another."""
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
        cli.run(sweep.concluded(script.main), script.TEXT_KEYS, rewrite)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def module_for(charset: Charset, lr: float = 0.1, **options: Any) -> CharModule:
    """A small model in training by plain SGD."""
    torch.manual_seed(0)
    return CharModule(
        RecurrentLM(len(charset), **{"hidden": 8, **options}),
        partial(torch.optim.SGD, lr=lr),
        partial(exponential, gamma=1.0),
        charset=charset,
        speakers={"ADA": 1},
    )


def trainer_for(folder: Path, **options: Any) -> pl.Trainer:
    """A Trainer with nothing that a test didn't ask for."""
    quiet()
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_progress_bar": any(
            isinstance(c, ProgressBar) for c in options.get("callbacks", ())
        ),
        "enable_model_summary": False,
        "enable_checkpointing": any(
            isinstance(c, Checkpoint) for c in options.get("callbacks", ())
        ),
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "default_root_dir": folder,
    }
    return pl.Trainer(**given | options)


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
