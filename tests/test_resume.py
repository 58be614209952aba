"""`resume=`: real processes killed at random, and what its command line takes and refuses."""

import json
import os
import random
import re
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

import train
from tests.conftest import PROJECT, TINY, Cli, RunHere, write_episodes
from tests.test_saving import SPEED, assert_same
from trek_lm.errors import UserError
from trek_lm.resume import replay

LINES = ("model.layers=2", "model.dropout=0.3", "optim.lr=0.02")
STREAM = ("model=gru", "optim=adagrad", "data.batching=stream", "data.steps=32")


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on where a run was killed: checkpoints, figures, lines, curves."""
    last, best = (
        torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for name in ("last", "best")
    )
    # As TensorBoard itself reads them: scalars are tensors too, and so are texts.
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    curves = {
        tag: [
            (event.step, make_ndarray(event.tensor_proto).tolist()) for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
        if tag != SPEED
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
            *("data.batch_size=4", "callbacks.last.every_minutes=0.002", *settings),
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
            target = self.steps * (kill + points.random()) / (kills + 0.1)
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


class TestCommandLine:
    @pytest.fixture
    def finished(
        self,
        tmp_path: Path,
        corpus: Path,
        run_here: RunHere,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Path:
        """A run in a folder with a difficult name; the current folder is the one above."""
        monkeypatch.chdir(tmp_path)
        name = "outputs/it's, model.hidden=12 (1)"
        run_here(
            train,
            *("data=files", f"data.root={corpus}", *TINY, f"hydra.run.dir={name}"),
        )
        return Path(name)

    def test_a_finished_run_says_so(
        self, finished: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = (finished / "metrics.json").read_bytes()
        capsys.readouterr()
        run_here(train, f"resume={finished}")
        assert f"{finished} is finished (2 epochs)" in capsys.readouterr().out
        assert (finished / "metrics.json").read_bytes() == before

    def test_a_moved_folder_is_as_good(
        self, finished: Path, run_here: RunHere, tmp_path: Path
    ) -> None:
        moved = finished.rename(tmp_path / "moved")
        run_here(train, f"resume={moved}", "trainer.max_epochs=3")
        assert json.loads((moved / "metrics.json").read_text())["epochs"] == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["model.hidden=5"], r"model\.hidden: fixed when the run began"),
            (["data=bundled"], "data: fixed when the run began"),
            (["+data.steps=5"], r"data\.steps: fixed"),
            (["seed=5"], "seed: fixed"),
            (["optim.lr=5"], r"optim\.lr: fixed"),
            (["hydra.run.dir=x"], r"hydra\.run\.dir: fixed"),
            (["-m"], "resume goes on with one run"),
        ],
    )
    def test_what_makes_a_run_stays(
        self, finished: Path, arguments: list[str], message: str
    ) -> None:
        before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
        with pytest.raises(UserError, match=message):
            replay([f"resume={finished}", *arguments])
        assert before == {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}

    def test_a_changed_config_is_named(self, finished: Path) -> None:
        path = finished / ".hydra" / "config.yaml"
        path.write_text(path.read_text().replace("dropout: 0.25", "dropout: 0.5"))
        with pytest.raises(UserError, match=r"conf/ has changed .*model\.dropout: 0\.5 -> 0\.25"):
            replay([f"resume={finished}"])

    def test_a_changed_corpus_is_refused(
        self,
        tmp_path: Path,
        run_here: RunHere,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        show = write_episodes(tmp_path / "show")
        run_here(train, "data=files", "data.root=show", *TINY, "hydra.run.dir=run")
        before = {path.name for path in Path("run").rglob("*")}
        (show / "1.txt").write_text("ADA: Something else.\n")
        with pytest.raises(SystemExit):
            run_here(train, "resume=run", "trainer.max_epochs=3")
        assert "is not the corpus that the run began with" in capsys.readouterr().err
        assert before == {path.name for path in Path("run").rglob("*")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=missing"], "resume=missing: no such folder"),
        (["resume=show"], r"not a run's folder \(it has no \.hydra/overrides\.yaml\)"),
        (["resume=half"], r"no checkpoints/last\.ckpt to go on from"),
        (["resume=latest"], "resume=latest: no run in outputs/"),
        (["resume=broken"], r"last\.ckpt: not a checkpoint"),
    ],
)
def test_nothing_to_go_on_from(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "show").mkdir()
    for name in ("half", "broken"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        run_here(train, f"hydra.run.dir={name}", "--cfg", "job")
        (tmp_path / name / ".hydra" / "config.yaml").write_text(capsys.readouterr().out)
        (tmp_path / name / ".hydra" / "overrides.yaml").write_text("[]\n")
    (tmp_path / "broken" / "checkpoints").mkdir()
    (tmp_path / "broken" / "checkpoints" / "last.ckpt").write_text("not one")
    with pytest.raises(SystemExit) as left:
        run_here(train, *arguments)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)


def test_what_is_replayed_is_not_replayed_again(
    trained: tuple[Path, str], run_folder: Path
) -> None:
    """By the process of a second device, which is started with the first one's arguments."""
    arguments = replay([f"resume={run_folder}", "trainer.max_epochs=3"])
    assert "model.hidden=12" in arguments
    assert arguments.index("trainer.max_epochs=2") < arguments.index("trainer.max_epochs=3")
    assert replay(arguments) == arguments


def test_without_resume_nothing_changes() -> None:
    assert replay(["model.hidden=3", "-m", "resume=null"]) == ["model.hidden=3", "-m"]
    assert replay([]) == []


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, corpus: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, str(PROJECT / "train.py"), "data=files", f"data.root={corpus}"),
            *("model.hidden=12", "trainer.max_epochs=100000", "hydra.run.dir=run"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert out.splitlines()[-1] == "stopped; python train.py resume=run goes on"
    assert process.returncode == 1
    assert "Traceback" not in err


def test_a_run_is_trained_longer_and_longer(tmp_path: Path, corpus: Path, run_cli: Cli) -> None:
    """In processes of their own: TensorBoard orders their files by the second they were made."""
    done = run_cli("train.py", "data=files", f"data.root={corpus}", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for epochs in (3, 4):
        longer = ("resume=latest", f"trainer.max_epochs={epochs}")
        done = run_cli("train.py", *longer, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"epoch {epochs}/{epochs}" in done.stdout
    (run,) = tmp_path.glob("outputs/*/*")
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 4
    log = (run / "train.log").read_text()
    assert [line for line in ("epoch 2/2", "epoch 3/3", "epoch 4/4") if log.count(line) != 1] == []
    curves = outcome(run)["curves"]
    steps = [step for step, _ in curves["val/loss"]]
    assert len(steps) == 4
    assert steps == sorted(set(steps)) == [step for step, _ in curves["train/acc"]]
    assert [step for step, _ in curves["test/loss"]] == [steps[-1] + 1]  # of the run as it is now
    done = run_cli("train.py", "resume=latest", "model.hidden=5", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.hidden: fixed when the run began")
