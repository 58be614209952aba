import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trek_lm.data.charset import Charset
from trek_lm.generation import scoring
from trek_lm.generation.scoring import score
from trek_lm.generation.steppers import Floats, Ids, NativeStepper, TorchStepper
from trek_lm.models.char_lm import RecurrentLM

CHARSET = Charset.writeup()


def make() -> RecurrentLM:
    torch.manual_seed(0)
    return RecurrentLM(len(CHARSET), hidden=8, layers=2).double().eval()


def by_steps(model: RecurrentLM, text: str) -> list[float]:
    """Bits of each character after the first, from one forward pass per prefix."""
    ids = CHARSET.encode(text).long()
    bits = []
    for end in range(1, len(ids)):
        logits, _ = model(ids[:end, None])
        bits.append(-float(logits[-1, 0].log_softmax(-1)[ids[end]].detach()) / math.log(2))
    return bits


@settings(max_examples=20)
@given(st.lists(st.text("ab: .", max_size=12), max_size=5), st.booleans())
def test_bits_match_a_forward_pass_per_prefix(texts: list[str], lines: bool) -> None:
    model = make()
    scores = score(model, CHARSET, texts, lines=lines)
    assert [s.text for s in scores] == texts
    for found, text in zip(scores, texts, strict=True):
        assert found.bits == pytest.approx(by_steps(model, text + "\n" * lines), abs=1e-9)


def test_batches_and_chunks_do_not_change_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    texts = ["KIRK: " + "so " * n for n in range(30)]
    whole = score(model, CHARSET, texts, lines=True)
    monkeypatch.setattr(scoring, "BATCH", 4)
    monkeypatch.setattr(TorchStepper, "chunk", 7)
    for one, other in zip(whole, score(model, CHARSET, texts, lines=True), strict=True):
        assert one.bits == pytest.approx(other.bits, abs=1e-9)


@given(st.lists(st.integers(2, 60), max_size=40))
def test_batches_limit_padding(lengths: list[int]) -> None:
    ids = [torch.zeros(length) for length in sorted(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "BATCH", 8)
        patch.setattr(scoring, "AREA", 100)
        batches = list(scoring._batches(range(len(ids)), ids))
    assert [number for batch in batches for number in batch] == list(range(len(ids)))
    for batch in batches:
        assert 0 < len(batch) <= 8
        assert len(batch) == 1 or len(batch) * len(ids[batch[-1]]) <= 100


def test_long_text_is_read_in_few_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by C code, where a tensor per character would take most of the time."""
    model, text = make().float(), "KIRK: so " * 100
    ids, pieces, read = CHARSET.encode(text).long()[:, None], [], NativeStepper.read

    def counted(stepper: NativeStepper, ids: Ids) -> Floats:
        pieces.append(read(stepper, ids))
        return pieces[-1]

    monkeypatch.setattr(NativeStepper, "read", counted)
    score(model, CHARSET, [text], lines=False)
    assert 0 < len(pieces) <= 4
    logits, _ = model(ids[:-1])
    assert np.allclose(np.concatenate(pieces), logits.detach().numpy(), atol=0.01)


def test_score_fields() -> None:
    (found,) = score(make(), CHARSET, ["KIRK: \u00c9ngage"], lines=True)
    assert found.text == "KIRK: Engage"
    assert len(found.bits) == len(found.text)
    assert found.log_prob == pytest.approx(-math.log(2) * sum(found.bits))
    assert found.bits_per_char == pytest.approx(sum(found.bits) / len(found.bits))


def test_scores_of_texts_without_targets() -> None:
    empty, single = score(make(), CHARSET, ["", "K"], lines=False)
    assert empty.bits == single.bits == ()
    assert math.isnan(single.bits_per_char)
    assert single.log_prob == 0
