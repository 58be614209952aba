"""`budget=`: turns a time into a number of steps; the same number gives the same run."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import train
from tests.support.commands import RunHere
from tests.support.corpora import data_from
from tests.support.runs import events_of
from tests.support.training import module_for, trainer_for
from trek_lm.errors import UserError
from trek_lm.training import budget
from trek_lm.training.budget import Budget, seconds_of
from trek_lm.training.recorder import Recorder
from trek_lm.training.trainer import max_epochs

SMALL = ("model.hidden=8", "data.batch_size=8")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("60s", 60), (45, 45), ("1.5m", 90), ("2h", 7200), ("0.5", 0.5), (" 20 m ", 1200)],
)
def test_valid_times(given: object, seconds: float) -> None:
    assert seconds_of(given) == seconds


@pytest.mark.parametrize("given", ["", "0s", "-5s", "soon", "5 parsecs", "1e3", "nan", True, [60]])
def test_invalid_times(given: object) -> None:
    with pytest.raises(UserError, match=r"budget=.*: give a time such as 60s, 20m or 1\.5h"):
        seconds_of(given)


@pytest.mark.parametrize(("accumulated", "steps"), [(1, 20), (2, 10), (99, 1)])
def test_steps_are_estimated_by_characters(
    accumulated: int, steps: int, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: at a tenth of an epoch's characters per second, an epoch takes ten seconds."""
    data = data_from(corpus, batch_size=4)
    data.setup()
    assert len(data.train_dataloader()) == 24
    speed = data.characters["train"] / 12
    monkeypatch.setattr(Recorder, "chars_per_second", property(lambda _: speed))
    monkeypatch.setitem(budget.TRIAL, "max_time", {"milliseconds": 50})
    limit = Budget("10s", partial(trainer_for, tmp_path), resumes=False)
    options = {"callbacks": [limit], "accumulate_grad_batches": accumulated, "max_epochs": -1}
    trainer = trainer_for(tmp_path, **options)
    trainer.fit(module_for(data.charset), data)
    assert limit.steps == trainer.global_step == trainer.max_steps == steps


@pytest.mark.parametrize(
    ("given", "epochs", "steps", "limit"),
    [
        (None, "${data.epochs}", -1, 4),
        (None, "${data.epochs}", 7, -1),
        ("60s", "${data.epochs}", -1, -1),
        (None, 3, 7, 3),
        ("60s", 3, -1, 3),
    ],
)
def test_max_epochs_limits_the_steps(given: Any, epochs: Any, steps: int, limit: int) -> None:
    """Those given by the user; the corpus's default where nothing else ends the run."""
    config = {"budget": given, "trainer": {"max_epochs": epochs, "max_steps": steps}}
    assert max_epochs(OmegaConf.create(config | {"data": {"epochs": 4}})) == limit


class TestRuns:
    @pytest.fixture(autouse=True)
    def quick(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The trials run, but with a fixed result, so that a busy machine changes nothing."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setitem(budget.TRIAL, "max_time", {"milliseconds": 50})
        measured = Budget._measured

        def a_hundred_a_second(self: Budget, *given: Any) -> int:
            assert measured(self, *given) >= 1
            return round(100 * self.seconds)

        monkeypatch.setattr(Budget, "_measured", a_hundred_a_second)

    def test_max_steps_gives_the_same_run_as_budget(self, corpus: Path, run_here: RunHere) -> None:
        """Bit by bit: beyond the corpus's epochs, and ending inside an epoch."""
        common = ("data=files", f"data.root={corpus}", *SMALL, "data.epochs=1", "model.dropout=0.3")
        run_here(train, *common, "budget=0.7s", "hydra.run.dir=a")
        first = json.loads(Path("a/metrics.json").read_text())
        steps = first["steps"]
        assert first["budget"] == "0.7s"
        assert first["max_steps"] == steps == 70
        run_here(train, *common, f"trainer.max_steps={steps}", "hydra.run.dir=b")
        second = json.loads(Path("b/metrics.json").read_text())
        timed = ("budget", "train_seconds", "chars_per_second")
        assert {k: v for k, v in first.items() if k not in timed} == {
            k: v for k, v in second.items() if k not in timed
        }
        states = [
            torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
            for run in "ab"
        ]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        # The schedule ends with the run.
        rate = torch.load("a/checkpoints/last.ckpt", weights_only=True)["lr_schedulers"][0]
        assert rate["_last_lr"] == [0.0]

    def test_resumed_run_keeps_its_number_of_steps(
        self, corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
    ) -> None:
        common = ("data=files", f"data.root={corpus}", *SMALL)
        run_here(train, *common, "budget=0.3s", "hydra.run.dir=a")
        metrics = Path("a/metrics.json")
        steps = json.loads(metrics.read_text())["steps"]
        metrics.unlink()  # as if it had been killed
        run_here(train, "resume=a")
        assert json.loads(metrics.read_text())["steps"] == steps
        run_here(train, "resume=a")
        assert "a is finished" in capsys.readouterr().out
        run_here(train, "resume=a", f"trainer.max_steps={steps + 3}")
        run_here(train, "resume=a")
        assert json.loads(metrics.read_text())["steps"] == steps + 3
        assert Path("a/.hydra/overrides.yaml").read_text().count("max_steps") == 1
        with pytest.raises(SystemExit):
            run_here(train, "resume=a", "budget=1h")
        assert "budget: fixed when the run began" in capsys.readouterr().err

    def test_budget_in_a_sweep(
        self, corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
    ) -> None:
        same = ("-m", "budget=0.2s,0.4s", "data=files", f"data.root={corpus}", *SMALL)
        run_here(train, *same, "hydra.sweep.dir=all")
        files = [Path("all", member, "metrics.json") for member in "01"]
        found = [json.loads(file.read_text()) for file in files]
        assert [run["steps"] for run in found] == [20, 40]
        files[1].unlink()  # killed at the very end
        run_here(train, *same, "hydra.sweep.dir=all")
        again = [json.loads(file.read_text()) for file in files]
        assert [run["steps"] for run in again] == [run["steps"] for run in found]
        assert "all/0 is finished" in capsys.readouterr().out

    def test_budget_replaces_max_steps(self, corpus: Path, run_here: RunHere) -> None:
        common = ("data=files", f"data.root={corpus}", *SMALL)
        run_here(train, *common, "trainer.max_steps=9999999", "budget=0.1s", "hydra.run.dir=a")
        assert json.loads(Path("a/metrics.json").read_text())["steps"] == 10
        assert json.loads(Path("a/metrics.json").read_text())["max_steps"] == 10

    def test_learning_rate_reaches_zero_at_the_last_step(
        self, corpus: Path, run_here: RunHere
    ) -> None:
        """A run that ends inside an epoch is validated at its end."""
        common = ("data=files", f"data.root={corpus}", *SMALL, "hydra.run.dir=a")
        run_here(train, *common, "trainer.max_steps=40")
        assert [event.step for event in events_of(Path("a")).Scalars("val/loss")][-1] == 40
        best = torch.load("a/checkpoints/best.ckpt", weights_only=True)
        assert best["global_step"] == 40
