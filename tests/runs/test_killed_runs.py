"""Real training processes killed at random: resumed, they end like one that was left alone."""

import json
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
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from tests.conftest import PROJECT, write_episodes
from tests.training.test_checkpointing import TIMED, assert_same

NGRAMS = ("model.ngrams=3", "model.ngram_rows=64", "model.matches=[2,5]")
LINES = ("model.layers=2", "model.dropout=0.3", "optim.lr=0.02", *NGRAMS)
STREAM = ("model=gru", "optim=adagrad", "data.batching=stream", "data.sequence_length=32", *NGRAMS)


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on where a run was killed: checkpoints, figures, lines, curves."""
    last, best = (
        torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for name in ("last", "best")
    )
    # As TensorBoard itself reads them: scalars are tensors too, and so are texts.
    (board,) = {path.parent for path in folder.glob("**/events.out.tfevents.*")}
    events = EventAccumulator(str(board), size_guidance={"tensors": 0})
    events.Reload()
    curves = {
        tag: [
            (event.step, make_ndarray(event.tensor_proto).tolist()) for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
        if tag not in TIMED
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "ranks", "TranscriptDataModule")
    return {
        **{key: last[key] for key in kept},
        "best": best["state_dict"],
        "metrics": {k: v for k, v in metrics.items() if "second" not in k},
        "samples": (folder / "samples.txt").read_text(),
        "curves": curves,
    }


class Runs:
    """One training run whole, then others of the same settings, killed and resumed."""

    def __init__(self, folder: Path, settings: tuple[str, ...]) -> None:
        self.folder = folder
        corpus = write_episodes(folder / "show", episodes=30, lines=30)
        self.arguments = [
            *("data=files", f"data.root={corpus}", "model.hidden=32", "trainer.max_epochs=4"),
            *("data.batch_size=4", "checkpoint.every_minutes=0.002", *settings),
        ]
        whole = self.start("hydra.run.dir=whole", *self.arguments)
        error = whole.communicate()[1]
        assert whole.returncode == 0, error
        self.steps = self.step("whole")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROJECT / "train.py"), *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def step(self, name: str) -> int:
        """The step of a run's last checkpoint; there is always a whole one to read."""
        path = self.folder / name / "checkpoints" / "last.ckpt"
        return int(torch.load(path, weights_only=True)["global_step"]) if path.exists() else -1

    def killed(self, name: str, kills: int, seed: int) -> dict[str, Any]:
        """The outcome of a run killed so many times, each at any moment of a share of it."""
        points = random.Random(seed)
        process = self.start(f"hydra.run.dir={name}", *self.arguments)
        for kill in range(kills):
            target = self.steps * (kill + points.random()) / (kills + 0.5)
            while self.step(name) < target:
                time.sleep(0.02)
                assert process.poll() is None, process.communicate()[1]
            time.sleep(points.uniform(0, 0.05))
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            print(f"seed {seed}, kill {kill + 1}: after step {self.step(name)} of {self.steps}")
            process = self.start(f"resume={name}")
        error = process.communicate()[1]
        assert process.returncode == 0, error
        assert list((self.folder / name).rglob("*.tmp")) == []
        return outcome(self.folder / name)


@pytest.fixture(scope="module", params=[LINES, STREAM], ids=["lines", "stream"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), request.param)


def check_curves(curves: dict[str, list[tuple[int, Any]]]) -> None:
    """No doubled, missing or zig-zag steps."""
    for tag, points in curves.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), tag
    steps = [step for step, _ in curves["train/loss_step"]]
    assert steps == list(range(20, steps[-1] + 1, 20))
    assert len(curves["train/loss"]) == len(curves["val/loss"]) == 4


@pytest.mark.parametrize("runs", [LINES], indirect=True, ids=["lines"])
def test_a_run_killed_three_times_ends_like_one_left_alone(runs: Runs) -> None:
    expected = outcome(runs.folder / "whole")
    check_curves(expected["curves"])
    assert_same(runs.killed("killed", 3, seed=random.randrange(10**6)), expected)


@pytest.mark.parametrize("runs", [LINES], indirect=True, ids=["lines"])
def test_a_run_killed_at_its_very_end_is_ended(runs: Runs) -> None:
    """When all is trained, and what a run leaves is only half there."""
    expected = outcome(runs.folder / "whole")
    for name in ("metrics.json", "samples.txt"):
        (runs.folder / "whole" / name).unlink()
    process = runs.start("resume=whole")
    error = process.communicate()[1]
    assert process.returncode == 0, error
    assert_same(outcome(runs.folder / "whole"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_twenty_kills(runs: Runs, seed: int) -> None:
    """Two kills a run, five runs, for lines and for a stream."""
    expected = outcome(runs.folder / "whole")
    check_curves(expected["curves"])
    assert_same(runs.killed(f"killed{seed}", 2, seed), expected)
