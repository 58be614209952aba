"""Checkpoints that earlier code wrote (format 3), and the lines it drew by PyTorch from each.

tests/fixtures/checkpoints: n=5 seed=1 temperature=0.7, with TREK_LM_NATIVE=0.
"""

from pathlib import Path

import pytest

from tests.conftest import PROJECT
from trek_lm.generation import steppers
from trek_lm.generation.api import CharLM
from trek_lm.models.native.build import library

CHECKPOINTS = sorted((PROJECT / "tests" / "fixtures" / "checkpoints").glob("*.ckpt"))


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_they_write_what_they_wrote(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steppers, "packed", lambda model: None)
    lines = CharLM.load(path).generate(n=5, seed=1, temperature=0.7)
    assert lines == path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.skipif(library("steps") is None, reason="no C compiler here")
@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_scores_are_near_in_c(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, lines = CharLM.load(path), path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    by_c = lm.scores(lines)
    monkeypatch.setattr(steppers, "packed", lambda model: None)
    for one, other in zip(by_c, lm.scores(lines), strict=True):
        assert one.bits_per_char == pytest.approx(other.bits_per_char, abs=1e-2)
