"""The commands a user types, with tiny settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sample
import train
from tests.support.commands import TINY, RunHere
from tests.support.runs import events_of
from trek_lm.generation.api import CharLM
from trek_lm.generation.steppers import steppers_for
from trek_lm.models.cells import CELLS
from trek_lm.models.native.build import library, start_build
from trek_lm.models.native.weights import packed
from trek_lm.runs.dashboard import FINAL
from trek_lm.runs.folder import read_metrics


def test_run_writes_only_its_folder(trained: tuple[Path, str], run_folder: Path) -> None:
    found = {p.relative_to(run_folder).as_posix() for p in run_folder.rglob("*") if p.is_file()}
    name = "lstm-12x1-adamw-files-max_epochs=2-batch_size=8"
    events = {file for file in found if "events.out.tfevents" in file}
    assert {file.rpartition("/")[0] for file in events} == {name}
    assert found - events == {
        *(".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
        *("metrics.json", "samples.txt", "train.log", ".lock"),
    }
    assert [path.name for path in trained[0].iterdir()] == ["outputs"]


def test_metrics_are_flat_and_complete(run_folder: Path, corpus: Path) -> None:
    metrics = read_metrics(run_folder)
    for name in (
        *("val/acc", "val/loss", "test/acc", "test/loss", "test/bpc", "test/perplexity"),
        *("parameters", "engine", "epochs", "train_seconds", "chars_per_second", "corpus"),
        *("corpus_sha256", "train_chars", "test_chars", "status", "seed", "precision"),
        *("threads", "processor", "version/torch", "version/python"),
    ):
        assert metrics[name] is not None, name
    assert not any(isinstance(value, dict | list) for value in metrics.values())
    assert metrics["status"] == "finished"
    assert metrics["epochs"] == 2
    assert metrics["corpus"] == "files"
    lm = CharLM.load(run_folder / "checkpoints" / "best.ckpt")
    trainable = sum(p.numel() for p in lm.model.parameters() if p.requires_grad)
    assert metrics["parameters"] == trainable


def test_last_lines_have_results_and_next_commands(
    trained: tuple[Path, str],
    run_folder: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = trained[1].splitlines()
    metrics = read_metrics(run_folder)
    assert [line.split("  ")[0] for line in lines[:-7] if line.startswith("epoch")] == [
        *("epoch 1/2", "epoch 2/2"),
    ]
    assert (run_folder / "train.log").read_text().count("epoch 2/2") == 1
    accuracy, *samples, folder, more, dashboard = lines[-7:]
    assert accuracy == (
        f"test accuracy {metrics['test/acc']:.4f}, {metrics['test/bpc']:.3f} bits per character"
    )
    kept = (run_folder / "samples.txt").read_text().splitlines()
    assert [line.removeprefix("    ") for line in samples] == kept[:3]
    assert len(kept) == 10
    relative = run_folder.relative_to(trained[0]).as_posix()
    assert folder == f"run folder:  {relative}"
    assert dashboard == "dashboard:   tensorboard --logdir outputs"
    script, *arguments = more.removeprefix("more lines:  python ").split()
    assert script == "sample.py"
    monkeypatch.chdir(trained[0])
    run_here(sample, *arguments, "n=2")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_tensorboard_has_curves_layout_text_and_hparams(run_folder: Path) -> None:
    events = events_of(run_folder)
    scalars = set(events.Tags()["scalars"])
    for part in ("train", "val", "test"):
        assert {f"{part}/{name}" for name in ("loss", "acc", "bpc", "perplexity")} <= scalars
    assert [event.step for event in events.Scalars("val/loss")] == [
        event.step for event in events.Scalars("train/loss")
    ]
    texts = set(events.Tags()["tensors"])
    assert {"config/text_summary", "generated lines/text_summary"} <= texts
    layout = str(events.Tensors("custom_scalars__config__")[0].tensor_proto)
    for chart in ("loss", "acc"):
        assert f"train/{chart}$" in layout
        assert f"val/{chart}$" in layout
    assert "hidden: 12" in str(events.Tensors("config/text_summary")[0].tensor_proto)
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    for key in (
        "optim",
        "data",
        "seed",
        "model.hidden",
        "optim.schedule.warmup",
        "data.sequence_length",
    ):
        assert key.encode() in plugin
    assert {f"final/{key}" for key in FINAL} <= scalars
    final = {key: events.Scalars(f"final/{key}")[-1].value for key in FINAL}
    assert final == pytest.approx({key: read_metrics(run_folder)[key] for key in FINAL})


def test_torch_engine_replaces_native_without_a_compiler(
    corpus: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TREK_LM_NATIVE", "0")
    arguments = ("data=files", f"data.root={corpus}", *TINY, "trainer.max_epochs=1")
    library.cache_clear()
    start_build.cache_clear()
    try:
        run_here(train, *arguments, "hydra.run.dir=run")
        assert "engine: torch on cpu" in capsys.readouterr().out
        assert read_metrics(Path("run"))["engine"] == "torch"
        with pytest.raises(SystemExit):
            run_here(train, *arguments, "model.engine=native")
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: model.engine=native: ")
    finally:
        library.cache_clear()
        start_build.cache_clear()


def test_another_cell_and_optimizer(corpus: Path, run_here: RunHere) -> None:
    run_here(
        *(train, "model=gru", "optim=adagrad", "data=files", f"data.root={corpus}", *TINY),
        *("data.batching=stream", "data.charset=corpus", "data.split=position"),
        *("model.layers=2", "model.dropout=0.1", "model.embedding=onehot", "model.head=writeup"),
        "hydra.run.dir=run",
    )
    assert "torch.optim.Adagrad" in Path("run/.hydra/config.yaml").read_text()
    lm = CharLM.load(Path("run/checkpoints/best.ckpt"))
    assert lm.model.spec["cell"] == "gru"
    assert "\ufffd" in lm.charset.characters


def test_validation_metrics_are_of_the_best_checkpoint(
    tmp_path: Path, corpus: Path, run_here: RunHere
) -> None:
    """Also without a test split, and where the best epoch is not the last."""
    settings = ("data=files", f"data.root={corpus}", "model.hidden=12", "data.batch_size=8")
    worse = ("optim=sgd", "optim.lr=0.1", "data.test_fraction=0", "trainer.max_epochs=4")
    # A growing learning rate, so that the loss rises again.
    growing = (
        "optim.schedule._target_=trek_lm.training.schedules.exponential",
        "~optim.schedule.warmup",
    )
    run_here(
        train,
        *(*settings, *worse, *growing, "~optim.schedule.final", "+optim.schedule.gamma=12"),
        *("trainer.gradient_clip_val=null", "hydra.run.dir=run"),
    )
    metrics = read_metrics(tmp_path / "run")
    curve = [event.value for event in events_of(tmp_path / "run").Scalars("val/loss")]
    assert min(curve) < curve[-1]
    assert metrics["val/loss"] == pytest.approx(min(curve))
    epochs = [
        torch.load(tmp_path / "run" / "checkpoints" / name, weights_only=True)["epoch"]
        for name in ("best.ckpt", "last.ckpt")
    ]
    assert epochs == [curve.index(min(curve)), 3]


def test_metrics_that_are_not_finite_fail_the_run(
    tmp_path: Path, corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run_here(
            train,
            "data=files",
            f"data.root={corpus}",
            *TINY,
            "hydra.run.dir=run",
            "optim=sgd",
            "optim.lr=1e30",
            "trainer.gradient_clip_val=null",
            "~callbacks.gradient_guard",
        )
    assert left.value.code == 2
    assert "training diverged" in capsys.readouterr().err
    metrics = read_metrics(tmp_path / "run")
    assert metrics["status"] == "failed"
    assert metrics["test/perplexity"] is None
    assert "not finite" in metrics["reason"]


def test_checkpoint_of_another_torch_optimizer_loads(
    tmp_path: Path, corpus: Path, run_here: RunHere
) -> None:
    run_here(
        train,
        "data=files",
        f"data.root={corpus}",
        *TINY,
        "hydra.run.dir=run",
        "optim.optimizer._target_=torch.optim.NAdam",
    )
    assert CharLM.load(tmp_path / "run" / "checkpoints" / "best.ckpt")


class Own(nn.GRU):
    """A user's cell, derived from another one."""

    def forward(self, inputs: Tensor, state: Any = None) -> Any:  # type: ignore[override]
        return super().forward(-inputs, state)


def test_custom_cell(
    tmp_path: Path, corpus: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is trained and sampled by PyTorch, not by the C code of its base class."""
    monkeypatch.setitem(CELLS, "own", {"torch": Own})
    source = ("data=files", f"data.root={corpus}", "hydra.run.dir=run")
    run_here(train, *source, *TINY, "model.cell=own")
    lm = CharLM.load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    logits, _ = lm.model(torch.tensor([[1]]))
    assert (tmp_path / "run" / "samples.txt").read_text()
    assert packed(lm.model) is None
    make, _ = steppers_for(lm.model)
    read = make(1).read(np.array([[1]], np.uint8))
    torch.testing.assert_close(torch.from_numpy(read), logits.double())
