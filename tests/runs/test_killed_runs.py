"""Training processes killed at random and resumed end like an uninterrupted one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from tests.support.commands import PROJECT, RunHere
from tests.support.corpora import write_episodes
from tests.support.runs import outcome
from tests.support.training import assert_same

pytestmark = pytest.mark.slow  # test_checkpointing.py kills runs within one process

NGRAMS = ("model.ngrams=3", "model.ngram_rows=64", "model.matches=[2,5]")
LINES = ("model.layers=2", "model.dropout=0.3", "optim.lr=0.02", *NGRAMS)
STREAM = ("model=gru", "optim=adagrad", "data.batching=stream", "data.sequence_length=32", *NGRAMS)


class Runs:
    """An uninterrupted run, and others with the same settings that are killed and resumed."""

    def __init__(self, folder: Path, settings: tuple[str, ...], run_here: RunHere) -> None:
        self.folder = folder
        corpus = write_episodes(folder / "show", episodes=30, lines=30)
        self.arguments = [
            *("data=files", f"data.root={corpus}", "model.hidden=32", "trainer.max_epochs=4"),
            *("data.batch_size=8", "checkpoint.every_minutes=0.002", *settings),
        ]
        self.run_in_pytest = run_here
        self.run_here("hydra.run.dir=whole", *self.arguments)
        self.steps = self.step("whole")

    def run_here(self, *arguments: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            self.run_in_pytest(train, *arguments)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROJECT / "train.py"), *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def step(self, name: str) -> int:
        """The step of a run's last checkpoint, -1 before the first."""
        path = self.folder / name / "checkpoints" / "last.ckpt"
        return int(torch.load(path, weights_only=True)["global_step"]) if path.exists() else -1

    def killed(self, name: str, kills: int, seed: int) -> dict[str, Any]:
        """The outcome of a run that is killed at `kills` random moments."""
        points = random.Random(seed)
        command = [f"hydra.run.dir={name}", *self.arguments]
        for kill in range(kills):
            process = self.start(*command)
            target = self.steps * (kill + points.random()) / (kills + 0.5)
            while self.step(name) < target:
                time.sleep(0.02)
                assert process.poll() is None, process.communicate()[1]
            time.sleep(points.uniform(0, 0.05))
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            print(f"seed {seed}, kill {kill + 1}: after step {self.step(name)} of {self.steps}")
            command = [f"resume={name}"]
        self.run_here(*command)
        assert list((self.folder / name).rglob("*.tmp")) == []
        return outcome(self.folder / name)


@pytest.fixture(scope="module", params=[LINES, STREAM], ids=["lines", "stream"])
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, run_here: RunHere
) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), request.param, run_here)


def check_curves(curves: dict[str, list[tuple[int, Any]]]) -> None:
    """No repeated, missing or unordered steps."""
    for tag, points in curves.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), tag
    steps = [step for step, _ in curves["train/loss_step"]]
    assert steps == list(range(20, steps[-1] + 1, 20))
    assert len(curves["train/loss"]) == len(curves["val/loss"]) == 4


@pytest.mark.parametrize("runs", [LINES], indirect=True, ids=["lines"])
def test_killed_run_resumes_to_the_same_result(runs: Runs) -> None:
    expected = outcome(runs.folder / "whole")
    check_curves(expected["curves"])
    assert_same(runs.killed("killed", 1, seed=random.randrange(10**6)), expected)


@pytest.mark.parametrize("runs", [LINES], indirect=True, ids=["lines"])
def test_run_killed_after_training_is_completed(
    runs: Runs, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when all steps were done and half of the run folder's files were written."""
    expected = outcome(runs.folder / "whole")
    for name in ("metrics.json", "samples.txt"):
        (runs.folder / "whole" / name).unlink()
    monkeypatch.chdir(runs.folder)
    run_here(train, "resume=whole")
    assert_same(outcome(runs.folder / "whole"), expected)


@pytest.mark.parametrize("seed", range(5))
def test_twenty_kills(runs: Runs, seed: int) -> None:
    """Two kills per run, five runs each for lines and for a stream."""
    expected = outcome(runs.folder / "whole")
    check_curves(expected["curves"])
    assert_same(runs.killed(f"killed{seed}", 2, seed), expected)
