import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.errors import UserError
from trek_lm.generation.sampling import Sampling, uniform

LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12)
FILTERS = st.fixed_dictionaries(
    {
        "top_k": st.none() | st.integers(1, 15),
        "top_p": st.none() | st.floats(0.05, 1),
        "min_p": st.none() | st.floats(0.01, 1),
    }
)


def filtered(p: list[float], top_k: int | None, top_p: float | None, min_p: float | None) -> Any:
    """Top-k, top-p and min-p by their definitions, character by character."""
    kept = sorted(range(len(p)), key=lambda n: (-p[n], n))[:top_k]
    if top_p is not None:
        total, nucleus = sum(p[n] for n in kept), 0.0
        for count, n in enumerate(kept, 1):
            nucleus += p[n]
            if nucleus >= top_p * total:
                kept = kept[:count]
                break
    if min_p is not None:
        kept = [n for n in kept if p[n] >= min_p * p[kept[0]]]
    total = sum(p[n] for n in kept)
    return [p[n] / total if n in kept else 0.0 for n in range(len(p))]


@given(LOGITS, st.floats(0.1, 3), FILTERS)
def test_filters_match_their_definitions(
    logits: list[float], temperature: float, filters: dict[str, Any]
) -> None:
    rows = torch.tensor([logits, logits[::-1]])
    found = Sampling(temperature=temperature, **filters).probabilities(rows)
    assert found.sum(-1).tolist() == pytest.approx([1, 1], abs=1e-12)
    unfiltered = Sampling(temperature=temperature).probabilities(rows)
    for row, probabilities in zip(found.tolist(), unfiltered.tolist(), strict=True):
        assert row == pytest.approx(filtered(probabilities, **filters), abs=1e-12)


@given(LOGITS, st.floats(0.1, 3))
def test_temperature_divides_the_logits(logits: list[float], temperature: float) -> None:
    powers = [math.exp(logit / temperature) for logit in logits]
    found = Sampling(temperature=temperature).probabilities(torch.tensor([logits]))[0]
    assert found.tolist() == pytest.approx([power / sum(powers) for power in powers], abs=1e-12)


@given(LOGITS, FILTERS, st.integers(0, 2**32 - 1))
def test_picks_have_positive_probability(
    logits: list[float], filters: dict[str, Any], seed: int
) -> None:
    sampling = Sampling(temperature=1.0, **filters)
    noise = torch.tensor([0.0, *uniform(seed, 0, np.arange(30)), 1 - 2.0**-32]).double()
    rows = torch.tensor([logits]).expand(len(noise), -1)
    possible = sampling.probabilities(rows[:1])[0]
    assert bool((possible[sampling.pick(rows, noise)] > 0).all())


@given(LOGITS, FILTERS)
def test_greedy_is_argmax(logits: list[float], filters: dict[str, Any]) -> None:
    rows = torch.tensor([logits])
    greedy = Sampling(greedy=True, **filters)
    assert greedy.pick(rows, torch.tensor([0.7])).item() == rows.argmax()
    assert greedy.probabilities(rows)[0].argmax() == rows.argmax()
    assert greedy.probabilities(rows).sum() == 1


def test_pick_frequencies_match_probabilities() -> None:
    noise = torch.from_numpy(uniform(5, np.arange(200), np.arange(500)[:, None]).ravel())
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0])
    picked = Sampling(temperature=0.8).pick(logits.expand(len(noise), -1), noise)
    expected = (logits.double() / 0.8).softmax(-1)
    counts = torch.bincount(picked, minlength=4)
    spread = 5 * (len(noise) * expected * (1 - expected)).sqrt()
    assert bool(((counts - len(noise) * expected).abs() < spread).all())


def test_noise_matches_splitmix64() -> None:
    """Computed with Python's integers; the first output from state 0 is published."""

    def mix(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF
    for seed, line, position in ((0, 0, 0), (7, 3, 20), (2**32 - 1, 10**6, 499)):
        state = (mix(seed << 32 | line) + (position + 1) * 0x9E3779B97F4A7C15) % 2**64
        assert uniform(seed, line, position) == (mix(state) >> 32) / 2**32


def test_noise_is_uniform_and_independent() -> None:
    noise = uniform(1, np.arange(300)[:, None], np.arange(300))
    assert abs(noise.mean() - 0.5) < 0.005
    assert abs(noise.var() - 1 / 12) < 0.002
    flat = noise - 0.5
    for other in (flat[1:] * flat[:-1], flat[:, 1:] * flat[:, :-1]):  # neighbours
        assert abs(other.mean()) < 0.002
    assert len(np.unique(noise)) > 0.999 * noise.size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature=0: must be greater than 0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": "hot"}, "temperature=hot"),
        ({"top_k": 0}, "top_k=0: must be greater than or equal to 1"),
        ({"top_k": 2**32 + 1}, "top_k=4294967297"),
        ({"top_k": 2.5}, r"top_k=2\.5"),
        ({"top_p": 0}, "top_p=0: must be greater than 0"),
        ({"top_p": 1.01}, r"top_p=1\.01"),
        ({"min_p": -0.1}, r"min_p=-0\.1"),
        ({"min_p": True}, "min_p=True"),
        ({"greedy": "yes"}, "greedy=yes: must be a valid boolean"),
    ],
)
def test_invalid_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Sampling(**options)
