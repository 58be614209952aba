from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trek_lm.generation.api import CharLM
from trek_lm.generation.sampling import Rules, Sampling, uniform
from trek_lm.generation.steppers import Floats, NativeStepper
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.native.build import library
from trek_lm.models.native.weights import PackedModel, packed
from trek_lm.models.state import State

pytestmark = pytest.mark.skipif(library("steps") is None, reason="no C compiler here")


@st.composite
def models(draw: st.DrawFn) -> RecurrentLM:
    torch.manual_seed(draw(st.integers(0, 1000)))
    model = RecurrentLM(
        draw(st.integers(2, 80)),
        cell=draw(st.sampled_from(["lstm", "gru"])),
        hidden=draw(st.integers(1, 70)),
        layers=draw(st.integers(1, 3)),
        embedding="onehot" if draw(st.booleans()) else 4,
        head=draw(st.sampled_from(["linear", "writeup", "factored"])),
        head_rank=draw(st.sampled_from([1, 5, 500])),
        ngrams=draw(st.sampled_from([0, 2, 5])),
        ngram_rows=2 ** draw(st.integers(1, 8)),
        matches=draw(st.sampled_from([[], [1], [3, 1, 6]])),
        match_rows=2 ** draw(st.integers(1, 8)),
    )
    if model.ngrams is not None:
        torch.nn.init.normal_(model.ngrams.table.weight)
    if model.matches is not None:
        torch.nn.init.normal_(model.matches.gates.weight, std=0.2)
    return model


def pack(model: RecurrentLM) -> PackedModel:
    made = packed(model)
    assert made is not None
    return made


def step(stepper: NativeStepper, ids: npt.NDArray[np.uint8]) -> Floats:
    """Logits after one more character of each line."""
    logits: Floats = stepper.read(ids[None])[0]
    return logits


def rounded(model: RecurrentLM) -> RecurrentLM:
    """The model in float64, with its weights, except lookup tables, rounded to bfloat16."""
    looked_up = ("embedding.weight", "recurrent.weight_ih_l0", "ngrams.table.weight")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and name not in looked_up:
                weight.copy_(weight.bfloat16())
    return model.double().eval()


@settings(max_examples=40)
@given(models(), st.integers(1, 130), st.integers(0, 1000))
@pytest.mark.every_build
def test_step_matches_the_model(model: RecurrentLM, lines: int, seed: int) -> None:
    """It starts from bfloat16 states, so that a step rounds only the new hidden states."""
    generator = torch.Generator().manual_seed(seed)
    ours = NativeStepper(pack(model), lines)
    size, layers = model.settings.hidden, model.settings.layers
    h = torch.rand(lines, layers, size, generator=generator).bfloat16()
    c = torch.rand(lines, layers, size, generator=generator)
    states = torch.from_numpy(ours.h.view(np.int16)).view(torch.bfloat16).view(lines, layers, -1)
    states[:, :, :size] = h
    ours.c[:] = c.flatten(1)
    ids = torch.randint(model.settings.vocab_size, (lines,), generator=generator).to(torch.uint8)
    lstm = model.settings.cell == "lstm"
    before = State((h.double().transpose(0, 1), c.double().transpose(0, 1))[: 1 + lstm])
    if model.history:
        history = torch.randint(model.settings.vocab_size + 1, (model.history, lines))
        ours.seen[:] = history.flip(0).t()
        before = before._replace(seen=history)
    if model.matches is not None:
        read = torch.randint(1, model.settings.vocab_size + 1, (40 + model.history, lines))
        _, table = model.matches(read, torch.zeros(40, lines, size))
        ours.table[:] = table.t()
        before = before._replace(matches=table)
    with torch.no_grad():
        logits, after = rounded(model)(ids.long()[None], before)
    stepped = torch.from_numpy(step(ours, ids.numpy())).double()
    torch.testing.assert_close(stepped, logits[0], rtol=0, atol=0.02)
    found = states[:, :, :size].double().transpose(0, 1)
    torch.testing.assert_close(found, after.recurrent[0], rtol=0, atol=2**-7)
    if model.history:
        assert ours.seen.tolist() == after.seen.flip(0).t().tolist()
    if model.matches is not None:
        assert ours.table.tolist() == after.matches.t().tolist()
    if lstm:
        first = torch.from_numpy(ours.c).view(lines, layers, size)[:, 0].double()
        torch.testing.assert_close(first, after.recurrent[1][0], rtol=0, atol=1e-5)


@settings(max_examples=20)
@given(models(), st.integers(2, 130))
@pytest.mark.every_build
def test_batch_size_does_not_change_logits(model: RecurrentLM, lines: int) -> None:
    weights = pack(model)
    together, alone = NativeStepper(weights, lines), NativeStepper(weights, 1)
    for _ in range(4):
        ids = np.random.default_rng(0).integers(
            model.settings.vocab_size, size=lines, dtype=np.uint8
        )
        logits = step(together, ids)
        assert logits[-1].tolist() == step(alone, ids[-1:])[0].tolist()


FILTERS = st.fixed_dictionaries(
    {
        "top_k": st.none() | st.integers(1, 15),
        "top_p": st.none() | st.floats(0.05, 1),
        "min_p": st.none() | st.floats(0.01, 1),
        "greedy": st.booleans(),
    }
)


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=20),
    st.floats(0.1, 3),
    FILTERS,
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_draw_matches_sampling(
    row: list[float], temperature: float, filters: dict[str, Any], unknown: bool, seed: int
) -> None:
    sampling = Sampling(temperature=temperature, **filters)
    stepper = NativeStepper(pack(RecurrentLM(len(row), hidden=1)), 1)
    rules = Rules(sampling, seed, 1, None, 0 if unknown else None)
    logits = torch.tensor(row).repeat(20, 1)
    numbers, positions = np.arange(20) % 3, np.arange(20)
    ids, log_probs = stepper.draw(rules, logits.numpy(), numbers, positions)
    allowed = logits.clone()
    if unknown:
        allowed[:, 0] = -torch.inf
    noise = torch.from_numpy(uniform(seed, numbers, positions))
    assert ids.tolist() == sampling.pick(allowed, noise).tolist()
    expected = logits.double().log_softmax(-1)[range(20), ids.tolist()]
    assert log_probs.tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_line_reads_its_start_step_by_step() -> None:
    torch.manual_seed(0)
    model = RecurrentLM(20, hidden=9, layers=2)
    weights, start = pack(model), bytes([3, 1, 4, 1, 5])
    rules = Rules(Sampling(temperature=1.0), 5, 99, None, None)
    line = NativeStepper(weights, 1).line(rules, 2, start, 1)
    stepper = NativeStepper(weights, 1)
    for id_ in start:
        logits = step(stepper, np.array([id_], np.uint8))
    ids, log_probs = stepper.draw(rules, logits, np.array([2]), np.array([0]))
    assert next(line) == (ids.tobytes(), log_probs[0])


def test_bfloat16_divergence_is_small(run_folder: Path) -> None:
    """The KL divergence from the float64 model is below 1e-4 nats per character."""
    lm = CharLM.load(run_folder / "checkpoints" / "best.ckpt")
    stepper = NativeStepper(pack(lm.model), 1)
    ids = lm.charset.encode("\n".join(lm.generate(n=20, seed=1, temperature=1.0)))
    stepped = stepper.read(ids.numpy()[:, None])[:, 0]
    q = torch.from_numpy(stepped).double().log_softmax(-1)
    with torch.no_grad():
        p = lm.model.double()(ids.long()[:, None])[0][:, 0].log_softmax(-1)
    divergence = float((p.exp() * (p - q)).sum(-1).mean())
    assert 0 <= divergence < 1e-4


def test_unsupported_models_are_not_packed() -> None:
    assert packed(RecurrentLM(9, hidden=4).double()) is None
    other = RecurrentLM(9, hidden=4)
    other.head = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Tanh())
    assert packed(other) is None
