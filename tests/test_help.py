"""`--help` lists every option and key of conf/, and its examples compose."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import sample
import train
from tests.support.commands import Cli
from trek_lm import help as trek_help
from trek_lm.help import help_text
from trek_lm.overrides import BASES, CONF, quote_text
from trek_lm.runs.folder import flat

TEXT_KEYS = {"train": train.TEXT_KEYS, "sample": sample.TEXT_KEYS}


def examples(name: str) -> list[list[str]]:
    printed = help_text(name).split("\nExamples\n")[1].split("\n\n")[0].replace("\\\n", "")
    return [shlex.split(line)[2:] for line in printed.splitlines()]


def options(group: str) -> str:
    """The lines of the help about a group."""
    found = re.search(rf"^  {group} .*?(?=^  \w|^$)", help_text("train"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("group", ["data", "model", "optim", "trainer", "callbacks", "logger"])
def test_every_option_is_listed(group: str) -> None:
    for option in (CONF / group).glob("*.yaml"):
        hidden = option.stem == "default" and group in BASES
        assert bool(re.search(rf"^    {option.stem} +\S", options(group), re.MULTILINE)) != hidden


@pytest.mark.parametrize("group", ["experiment", "sweep", "debug"])
def test_experiments_sweeps_and_debug_runs_are_listed(group: str) -> None:
    for option in (CONF / group).glob("*.yaml"):
        _, comment, *_ = option.read_text(encoding="utf-8").splitlines()
        assert re.search(rf"^    {option.stem} +{re.escape(comment[2:30])}", options(group), re.M)


@pytest.mark.parametrize("name", ["train", "sample"])
def test_every_key_is_listed_with_its_default(name: str) -> None:
    printed = help_text(name)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose(name))
    for key, value in flat(config).items():
        group, *below = key.split(".")
        if any(part.startswith("_") or part in ("source", "plugins") for part in below):
            continue
        shown = key if len(below) == 1 and (CONF / group).is_dir() else (below or [group])[-1]
        given = re.findall(rf"^ +{re.escape(shown)}: +(.*?)(?: +#.*)?$", printed, re.MULTILINE)
        found = [OmegaConf.to_container(OmegaConf.create(f"x: {text}")) for text in given]
        assert {"x": value} in found, key


@pytest.mark.parametrize(
    ("name", "example"), [(name, given) for name in TEXT_KEYS for given in examples(name)]
)
def test_example_composes(name: str, example: list[str]) -> None:
    """With the first value of a sweep, and without `resume=`, which needs a run."""
    first = [re.sub(r"^(model\.\w+=\w+),.*", r"\1", part) for part in example if part != "-m"]
    typed = [part for part in first if not part.startswith("resume=")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose(name, quote_text(typed, TEXT_KEYS[name]))


def test_examples_are_listed() -> None:
    assert len(examples("train")) > 5
    assert len(examples("sample")) > 5


def test_new_option_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "train.yaml").write_text(
        "# Trains.\n\ndefaults:\n  - _self_\n  - model: new  # what learns\n\nseed: 3  # of all\n"
    )
    (tmp_path / "model/default.yaml").write_text("# Shared.\n_target_: x\nsize: 8  # units\n")
    (tmp_path / "model/new.yaml").write_text(
        "# A new one.\ndefaults: [default, _self_]\n\nsize: 9\ninner:\n  a: 1  # deep\n"
        "        # and long\n  b: ${model.size}\n"
    )
    monkeypatch.setattr(trek_help, "CONF", tmp_path)
    lines = [line.strip() for line in help_text("train").splitlines() if line]
    assert lines[:3] == ["Trains.", lines[1], "model                 what learns"]
    assert lines[3] == "new                 A new one."
    assert lines[5:] == [
        "seed: 3  # of all",
        "model.size: 8  # units",
        "model.size: 9",
        "model.inner:",
        "a: 1  # deep",
        "# and long",
        "b: ${model.size}",
    ]


def test_help_prints_and_creates_no_file(tmp_path: Path, run_cli: Cli) -> None:
    for arguments in (["--help"], ["model=gru", "-h"]):
        assert run_cli("train.py", *arguments, cwd=tmp_path).stdout.startswith("Trains a character")
    assert "== Flags ==" in run_cli("sample.py", "--hydra-help", cwd=tmp_path).stdout
    assert list(tmp_path.iterdir()) == []
