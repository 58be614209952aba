"""Run folders of others, or changed by them: `resume=` says on one line what is wrong.

A leaderboard of them shows what is there, as data.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from tests.support.commands import RunHere, check_error
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.runs import leaderboard

OTHER = "another model"
PIPE = "no process writes to it"
GROUPS = "data: {x: 1}\nmodel: {x: 1}\ntrainer: {x: 1}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=missing"], "resume=missing: no such folder"),
        (["resume=show"], r"not a run's folder \(it has no \.hydra/overrides\.yaml\)"),
        (["resume=half"], r"no checkpoints/last\.ckpt to resume from"),
        (["resume=latest"], "resume=latest: no run in outputs/"),
        (["resume=broken"], r"last\.ckpt: not a checkpoint"),
        (["resume=broken/checkpoints/last.ckpt"], "is a file, give the run's folder"),
        (["resume="], "resume= is empty"),
    ],
)
def test_nothing_to_resume_from(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    run_here: RunHere,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "show").mkdir()
    for name in ("half", "broken"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        run_here(train, f"hydra.run.dir={name}", "--cfg", "job")
        (tmp_path / name / ".hydra" / "config.yaml").write_text(capsys.readouterr().out)
        (tmp_path / name / ".hydra" / "overrides.yaml").write_text("[]\n")
        (tmp_path / name / ".hydra" / "hydra.yaml").write_text(
            "hydra: {runtime: {config_sources: []}}"
        )
    (tmp_path / "broken" / "checkpoints").mkdir()
    (tmp_path / "broken" / "checkpoints" / "last.ckpt").write_text("not one")
    with pytest.raises(SystemExit) as left:
        run_here(train, *arguments)
    assert left.value.code == 2
    check_error(capsys.readouterr().err, message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (".hydra/overrides.yaml", "{a: 1}", "not a list of overrides"),
        (".hydra/overrides.yaml", "- -m\n- seed=1,2", "overrides.yaml: '-m' is not an override"),
        (".hydra/overrides.yaml", "- model.hidden=[1", "overrides.yaml: 'model.hidden=.1' is not"),
        (".hydra/overrides.yaml", "- [a, b]", "overrides.yaml: .* is not an override"),
        (".hydra/overrides.yaml", "- 3", "overrides.yaml: '3' is not an override"),
        (".hydra/overrides.yaml", "- model.hidden=13", "conf/ has changed .*hidden: 12 -> 13"),
        (".hydra/hydra.yaml", "hydra: [1]", "hydra.yaml: not a run's Hydra settings"),
        (".hydra/overrides.yaml", "[&a [], *a]", "overrides.yaml: .*it has an alias"),
        (".hydra/config.yaml", "[1, 2]", "config.yaml: not a run's settings"),
        (".hydra/config.yaml", GROUPS, "conf/ has changed"),
        (".hydra/config.yaml", f"budget: 60s\n{GROUPS}", "conf/ has changed"),
        (".hydra/config.yaml", "budget: 60s\ndata: 1\nmodel: 2\ntrainer: 3", "a run's settings"),
        (".hydra/config.yaml", "{", "config.yaml: cannot be read"),
        (".hydra/config.yaml", None, "config.yaml: cannot be read .*No such file"),
        (".hydra/config.yaml", "a: " + "[" * 50_000, "config.yaml: .*nested deeper"),
        (".hydra/config.yaml", "- " * 30_000, "config.yaml: .*nested deeper"),
        (".hydra/config.yaml", "a: 1\n" * 30_000, "config.yaml: .*more than 65,536 bytes"),
        (".hydra/config.yaml", PIPE, "config.yaml: .*not a file"),
        (".hydra/overrides.yaml", "3", "overrides.yaml: "),
        ("checkpoints/best.ckpt", "no weights", r"best\.ckpt: not a checkpoint"),
        ("checkpoints/last.ckpt", OTHER, r"last\.ckpt: not a checkpoint of this run's model"),
        ("checkpoints/best.ckpt", OTHER, r"best\.ckpt: not a checkpoint of this run's model"),
    ],
)
def test_corrupt_run_folder_is_refused(
    name: str,
    content: str | None,
    message: str,
    trained: tuple[Path, str],
    run_folder: Path,
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, and all files stay as they were."""
    monkeypatch.chdir(trained[0])
    path = shutil.copytree(run_folder, tmp_path / "run") / name
    if content is None:
        path.unlink()
    elif content == PIPE:
        path.unlink()
        os.mkfifo(path)
    elif content == OTHER:
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["state_dict"] = other_weights(checkpoint["trek_lm"]["model"])
        torch.save(checkpoint, path)
    else:
        path.write_text(content)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(SystemExit) as left:
        run_here(train, f"resume={tmp_path / 'run'}", "trainer.max_epochs=3")
    assert left.value.code == 2
    check_error(capsys.readouterr().err, message)
    before.pop(tmp_path / "run" / "train.log")
    assert before == {p: p.read_bytes() for p in before}


def other_weights(spec: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A checkpoint of another architecture, consistent in itself."""
    spec["hidden"] = 13
    return {f"model.{key}": value for key, value in RecurrentLM(**spec).state_dict().items()}


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        (".hydra/config.yaml", "seed: ${unused:made}", "${unused:made}"),
        (".hydra/config.yaml", "seed: ${oc.env:HOME}", "${oc.env:HOME}"),
        (".hydra/config.yaml", "seed: ${nobody:3}", "${nobody:3}"),
        (".hydra/config.yaml", "seed: ${data.seed}\ndata: {seed: 3}", "3"),
        (".hydra/config.yaml", "seed: ${seed}", "${seed}"),
        ("metrics.json", '{"val/loss": "x", "status": "finished"}', "unfinished"),
        ("metrics.json", '{"val/loss": true, "status": "finished"}', "unfinished"),
        ("metrics.json", '{"parameters": [1], "status": "finished"}', "unfinished"),
        ("metrics.json", '{"epochs": 1' + "0" * 400 + "}", "unfinished"),
        ("metrics.json", '{"val/loss": NaN, "status": "finished"}', "unfinished"),
        ("metrics.json", '{"status": "\\ud800"}', "unfinished"),
        ("metrics.json", "[" * 60_000, "unfinished"),
        ("metrics.json", PIPE, "unfinished"),
    ],
)
def test_leaderboard_treats_settings_as_data(
    name: str,
    content: str,
    shown: str,
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """References to the environment and `_target_`s are shown as text."""
    for number in "01":
        folder = shutil.copytree(run_folder, tmp_path / "all" / number)
        (folder / ".hydra" / "overrides.yaml").write_text("- seed=1")
    path = tmp_path / "all" / "1" / name
    path.unlink()
    if content == PIPE:
        os.mkfifo(path)
    else:
        others = "data: {x: 1}\n" * ("data:" not in content) + "model: {x: 1}\ntrainer: {x: 1}\n"
        path.write_text(content + ("\n" + others) * (name != "metrics.json"))
    leaderboard.main([str(tmp_path / "all")])
    printed = capsys.readouterr().out
    board = printed.split("\n\n")[0]
    assert len(board.splitlines()) == 4
    assert f" {shown} " in board
    assert {p.name for p in tmp_path.iterdir()} == {"all"}


def test_folder_name_that_is_not_utf_8(
    corpus: Path,
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit):
        run_here(train, "data=files", f"data.root={corpus}", "hydra.run.dir=run")
    check_error(capsys.readouterr().err, "run: its name is not UTF-8; rename it")


def test_late_error_keeps_a_finished_run(
    run_folder: Path,
    trained: tuple[Path, str],
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(trained[0])
    run = shutil.copytree(run_folder, tmp_path / "run")
    kept = ("metrics.json", ".hydra/overrides.yaml", "checkpoints/last.ckpt")
    before = [(run / name).read_bytes() for name in kept]
    with pytest.raises(SystemExit):
        run_here(train, f"resume={run}", "trainer.max_epochs=9", "+trainer.val_check_interval=9999")
    check_error(capsys.readouterr().err, "`val_check_interval`")
    assert [(run / name).read_bytes() for name in kept] == before
