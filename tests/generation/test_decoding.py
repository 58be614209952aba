import itertools
import math
import signal
import threading
from collections.abc import Iterator

import pytest
import torch

from trek_lm.generation import decoding, steppers
from trek_lm.generation.decoding import Decoded, Decoder, decode, stream
from trek_lm.generation.sampling import Rules, Sampling
from trek_lm.generation.steppers import TorchStepper
from trek_lm.models.char_lm import RecurrentLM

NEWLINE, VOCAB_SIZE = 3, 12
STARTS = [bytes([n % VOCAB_SIZE, *range(4, 4 + n % 5)]) for n in range(40)]


@pytest.fixture(params=["lstm", "gru"])
def model(request: pytest.FixtureRequest) -> RecurrentLM:
    torch.manual_seed(0)
    made = RecurrentLM(
        VOCAB_SIZE, cell=request.param, hidden=8, layers=2, ngrams=3, ngram_rows=64, matches=[2]
    )
    assert made.ngrams is not None
    torch.nn.init.normal_(made.ngrams.table.weight, std=0.5)
    assert made.matches is not None
    torch.nn.init.normal_(made.matches.gates.weight)
    return made.eval()


@pytest.fixture(params=["native", "torch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(steppers, "packed", lambda model: None)
    return str(request.param)


def rules(max_chars: int = 30, temperature: float = 1.0, unknown: int | None = None) -> Rules:
    return Rules(Sampling(temperature=temperature), 7, max_chars, NEWLINE, unknown)


def by_number(lines: Iterator[Decoded]) -> list[Decoded]:
    return sorted(lines)


@pytest.mark.usefixtures("engine")
def test_rows_and_threads_do_not_change_a_line(
    model: RecurrentLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does streaming."""
    lines = by_number(decode(model, STARTS, rules()))
    assert [line.number for line in lines] == list(range(40))
    for rows in (1, 7):
        monkeypatch.setattr(decoding, "ROWS", rows)
        for threads in (1, 3):
            monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            again = by_number(decode(model, STARTS, rules()))
            assert [line.ids for line in again] == [line.ids for line in lines]
    alone = [next(decode(model, [start], rules())).ids for start in STARTS[:1]]
    assert alone == [lines[0].ids]
    streamed = [bytes(ids) for ids in stream(model, STARTS, rules())]
    assert streamed == [line.ids[-line.drawn :] for line in lines]


@pytest.mark.usefixtures("engine")
def test_lines_have_their_start_and_end_at_newline_or_max_chars(model: RecurrentLM) -> None:
    lengths = set()
    for line in decode(model, STARTS, rules(max_chars=20)):
        start = STARTS[line.number]
        assert line.ids.startswith(start)
        drawn = line.ids[len(start) :]
        assert len(drawn) == line.drawn <= 20
        assert NEWLINE not in drawn[:-1]
        assert drawn[-1] == NEWLINE or len(drawn) == 20
        lengths.add(len(drawn))
    assert len(lengths) > 5


def test_log_prob_equals_that_of_a_full_forward_pass(model: RecurrentLM, engine: str) -> None:
    """At any temperature of drawing."""
    for line in decode(model, STARTS, rules(temperature=0.6)):
        ids = torch.tensor(list(line.ids))
        logits = model(ids[:-1, None])[0][:, 0].detach()
        each = logits.log_softmax(-1).gather(-1, ids[1:, None])[:, 0]
        assert line.log_prob == pytest.approx(
            float(each[-line.drawn :].sum()), abs=1e-4 if engine == "torch" else 3e-2
        )


def test_waiting_lines_fill_free_rows(model: RecurrentLM) -> None:
    """With 4 rows, 40 lines take few more steps than a quarter of their characters."""
    decoder = Decoder(lambda rows: TorchStepper(model, rows), enumerate(STARTS), rules(), 4)
    steps, lines = 0, []
    while decoder:
        lines += decoder.advance()
        steps += 1
    characters = sum(len(line.ids) - 1 for line in lines)
    assert math.ceil(characters / 4) <= steps <= characters / 4 + 30


def test_starts_are_consumed_lazily(model: RecurrentLM) -> None:
    starts = enumerate(STARTS)
    decoder = Decoder(lambda rows: TorchStepper(model, rows), starts, rules(), 3)
    assert next(starts) == (3, STARTS[3])
    while decoder:
        decoder.advance()
    assert next(starts, None) is None


@pytest.mark.usefixtures("engine")
def test_unknown_character_is_not_drawn(model: RecurrentLM) -> None:
    with torch.no_grad():
        model.head.bias[5] = 4.0  # type: ignore[operator]
    assert any(5 in line.ids for line in decode(model, [b"\1"], rules()))
    assert not any(5 in line.ids for line in decode(model, [b"\1"] * 20, rules(unknown=5)))


@pytest.mark.usefixtures("engine")
def test_rows_grow_for_long_lines(model: RecurrentLM) -> None:
    endless = Rules(Sampling(), 1, 700, None, None)
    for line in decode(model, [bytes([1] * 200)] * 3, endless):
        assert len(line.ids) == 900


def test_threads_end_when_the_iterator_is_closed(model: RecurrentLM) -> None:
    before = threading.active_count()
    endless = Rules(Sampling(), 1, 10_000_000, NEWLINE, None)
    lines = decode(model, STARTS * 100, endless)
    assert len(list(itertools.islice(lines, 3))) == 3
    lines.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate()[before:]:
        thread.join(10)
    assert threading.active_count() == before


def test_ctrl_c_during_thread_start_is_raised(
    model: RecurrentLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Thread.start

    def interrupting(thread: threading.Thread) -> None:
        signal.raise_signal(signal.SIGINT)
        started(thread)

    before = threading.active_count()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(threading.Thread, "start", interrupting)
    with pytest.raises(KeyboardInterrupt):
        list(decode(model, STARTS * 100, rules()))
    assert threading.active_count() == before


def test_error_in_a_thread_is_raised_in_the_caller(
    model: RecurrentLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Decoder) -> list[Decoded]:
        raise MemoryError

    monkeypatch.setattr(Decoder, "advance", broken)
    with pytest.raises(MemoryError):
        list(decode(model, STARTS, rules()))
