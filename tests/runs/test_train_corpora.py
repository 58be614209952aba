"""`python train.py` on each corpus, with tiny settings."""

import re
from pathlib import Path

import pytest

import sample
import train
from tests.support.commands import TINY, Cli, RunHere
from tests.support.corpora import write_episodes
from trek_lm.generation.api import CharLM
from trek_lm.runs.folder import read_metrics


def test_show_in_a_folder_with_spaces(
    tmp_path: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    show = write_episodes(tmp_path / "my shows, all")
    for path in show.iterdir():
        path.write_text(path.read_text().replace("ADA", "T'PAU"))
    run_here(train, "data=files", f"data.root={show}", *TINY)
    capsys.readouterr()
    run_here(sample, "speaker=T'PAU", "n=5", "temperature=0.5", "seed=1")
    assert [line[:7] for line in capsys.readouterr().out.splitlines()] == ["T'PAU: "] * 5


def test_bundled_corpus(run_here: RunHere, capsys: pytest.CaptureFixture[str]) -> None:
    run_here(train, "trainer.max_steps=3", "model.hidden=8")
    assert "bundled: 24 files (script)" in capsys.readouterr().out


def test_run_without_validation_and_test(corpus: Path, run_here: RunHere) -> None:
    splits = ("data.val_fraction=0", "data.test_fraction=0", "hydra.run.dir=run")
    run_here(train, "data=files", f"data.root={corpus}", *TINY, *splits)
    metrics = read_metrics(Path("run"))
    assert metrics["val/loss"] is metrics["val/acc"] is metrics["test/acc"] is None
    assert metrics["train/loss"] > 0


def test_star_trek_from_a_folder(
    tos: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(
        *(train, "data=tos", f"data.root={tos}", "model.hidden=8", "data.split=line"),
        *("trainer.max_steps=4", "data.val_fraction=0", "data.test_fraction=0.001"),
    )
    printed = capsys.readouterr().out
    assert "79 episodes, 28,9" in printed
    assert "test lines also occur in train" in printed or "test lines are also in train" in printed


def test_tinyshakespeare_with_its_usual_split(
    real_data: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(
        *(train, "data=shakespeare", f"data.root={real_data / 'tinyshakespeare'}"),
        *("model.hidden=8", "trainer.max_steps=3", "data.sequence_length=500", "hydra.run.dir=run"),
    )
    printed = capsys.readouterr().out
    assert "1 file (text), 1 episode, 40,000 lines, 1,115,394 characters" in printed
    metrics = read_metrics(Path("run"))
    # The first 90% and the last 10%; the first character of each has nothing before it.
    assert metrics["train_chars"] == int(1_115_394 * 0.9) - 1
    assert metrics["test_chars"] == 1_115_394 - int(1_115_394 * 0.9) - 1
    lm = CharLM.load(Path("run/checkpoints/best.ckpt"))
    assert len(lm.charset) == 65
    text = lm.generate(n=1, max_chars=300, seed=1)[0]
    assert len(text) == 300  # across newlines
    assert lm.generate(n=1, prompt="ROMEO:", max_chars=9, seed=1)[0].startswith("ROMEO:")


def test_matches_with_lines_are_warned_about(corpus: Path, run_here: RunHere) -> None:
    for batching, warns in (("lines", True), ("stream", False)):
        options = ("model.matches=[4]", f"data.batching={batching}", f"hydra.run.dir={batching}")
        run_here(train, "data=files", f"data.root={corpus}", *TINY, "data.split=line", *options)
        log = Path(batching, "train.log").read_text()
        assert ("each line starts with an empty table" in log) == warns


@pytest.mark.slow
def test_log_is_utf_8_in_any_locale(
    tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(key, value)
    for path in write_episodes(tmp_path / "show").iterdir():
        path.write_text(re.sub("ADA|BRAN", "\u00c9MILE", path.read_text()), encoding="utf-8")
    source = ("data=files", "data.root=show", "data.charset=corpus")
    done = run_cli("train.py", *source, *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (log,) = tmp_path.glob("outputs/*/*/train.log")
    assert "\u00c9MILE: " in log.read_text(encoding="utf-8")
