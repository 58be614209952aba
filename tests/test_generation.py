from pathlib import Path
from typing import Any

import pytest
import torch

from trek_lm.data.charset import Charset
from trek_lm.errors import UserError
from trek_lm.generation import CharLM
from trek_lm.models.char_lm import RecurrentLM


@pytest.fixture(params=["lstm", "gru"])
def model(request: pytest.FixtureRequest) -> CharLM:
    torch.manual_seed(0)
    charset = Charset.writeup()
    network = RecurrentLM(len(charset), cell=request.param, hidden=16, layers=2).eval()
    return CharLM(network, charset, {"KIRK": 30, "SPOCK": 10, "T'PAU": 1})


def test_the_text_of_a_line_depends_on_seed_and_number_alone(model: CharLM) -> None:
    lines = model.generate(speaker="KIRK", n=8, seed=3, temperature=1.0, max_chars=60)
    assert lines == model.generate(speaker="KIRK", n=8, seed=3, temperature=1.0, max_chars=60)
    assert lines[:3] == model.generate(speaker="KIRK", n=3, seed=3, temperature=1.0, max_chars=60)
    assert lines != model.generate(speaker="KIRK", n=8, seed=4, temperature=1.0, max_chars=60)
    assert len(set(lines)) == 8


def test_each_character_is_drawn_from_the_models_distribution(model: CharLM) -> None:
    """One character after a prompt, often: frequencies against softmax(logits / temperature)."""
    n, temperature = 20_000, 0.7
    lines = model.generate(prompt="SPOCK: Fasc", n=n, max_chars=1, temperature=temperature, seed=0)
    ids = model.charset.encode("SPOCK: Fasc").long()
    logits = model.model(ids[:, None])[0][-1, 0]
    expected = (logits / temperature).softmax(-1)
    drawn = [line.removeprefix("SPOCK: Fasc") or "\n" for line in lines]
    counts = torch.tensor([drawn.count(symbol) for symbol in model.charset.symbols])
    # Five standard deviations of a binomial count.
    spread = 5 * (n * expected * (1 - expected)).sqrt() + 1
    assert bool(((counts - n * expected).abs() < spread).all())


def test_teacher_forced(model: CharLM) -> None:
    """The first character, then the likeliest one after each true prefix."""
    line = "KIRK: Fascin\N{LATIN SMALL LETTER A WITH ACUTE}ting."
    read = model.charset.normalise(line)
    expected = read[0]
    for end in range(1, len(read) + 1):
        logits, _ = model.model(model.charset.encode(read[:end]).long()[:, None])
        expected += model.charset.symbols[int(logits[-1, 0].argmax())]
    model.model.train()
    assert model.teacher_forced(line) == expected
    assert model.model.training


def test_a_cold_model_is_greedy(model: CharLM) -> None:
    (line,) = model.generate(prompt="KIRK: ", n=1, max_chars=10, temperature=1e-6, seed=1)
    text = "KIRK: "
    for _ in range(10):
        ids = model.charset.encode(text).long()
        text += model.charset.symbols[int(model.model(ids[:, None])[0][-1, 0].argmax())]
    assert line == text.split("\n")[0]


def test_lines_begin_as_asked_for(model: CharLM) -> None:
    lines = model.generate(speaker=["spock", "T'PAU"], n=4, max_chars=5)
    assert [line.split(":")[0] for line in lines] == ["SPOCK", "T'PAU", "SPOCK", "T'PAU"]
    assert all(line.startswith("X: e") for line in model.generate(prompt="X: é"))
    assert model.generate(speaker="KIRK", prompt="I'm", n=1)[0].startswith("KIRK: I'm")
    assert all(len(line) <= len("T'PAU: ") + 5 for line in lines)


def test_speakers_are_drawn_as_often_as_they_speak(model: CharLM) -> None:
    drawn = model._cast(None, 2000, seed=0)
    assert 0.68 < drawn.count("KIRK") / 2000 < 0.78  # 30 of 41
    assert drawn.count("T'PAU") > 0


def test_a_line_ends_at_its_newline(model: CharLM) -> None:
    with torch.no_grad():
        head = model.model.head
        assert isinstance(head, torch.nn.Linear)
        head.bias[model.charset.newline_id] = 100.0
    assert model.generate(speaker="KIRK", n=2) == ["KIRK: ", "KIRK: "]


def test_the_unknown_symbol_is_never_written() -> None:
    charset = Charset.of(["AB: yes.\n"])
    lm = CharLM(RecurrentLM(len(charset), hidden=4), charset, {"AB": 1})
    assert charset.unknown_id is not None
    assert "\ufffd" not in "".join(lm.generate(n=50, temperature=5.0, seed=0, max_chars=50))


def test_generating_leaves_the_model_in_its_mode(model: CharLM) -> None:
    model.model.train()
    model.generate(n=1, max_chars=2)
    assert model.model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speaker": "SPOK"}, "speaker=SPOK: not in the corpus; near: SPOCK"),
        ({"speaker": "Zzz"}, "those who speak most: KIRK, SPOCK, T'PAU"),
        ({"speaker": ["KIRK", "nobody"]}, "speaker=nobody"),
        ({"prompt": "KIRK: €"}, "prompt: '€' at position 7"),
        ({"prompt": ""}, "prompt= is empty"),
        ({"prompt": "\u0301"}, "prompt= is empty"),  # an accent without its letter
        ({"speaker": []}, r"speaker=\[\] is empty"),
        ({"temperature": 0}, "temperature=0: must be a number above 0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"n": 0}, "n=0: must be a whole number above 0"),
        ({"max_chars": 1.5}, "max_chars=1.5"),
        ({"seed": "x"}, "seed=x"),
    ],
)
def test_bad_values(model: CharLM, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.generate(**options)


def test_a_checkpoint_loads_as_data(run_folder: Path) -> None:
    lm = CharLM.load(run_folder / "checkpoints" / "best.ckpt")
    assert dict(lm.speakers) == {"ADA": 60, "BRAN": 60}
    assert not lm.model.training
    assert lm.generate(speaker="ada", n=2, seed=1)[0].startswith("ADA: ")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint file"):
        CharLM.load(tmp_path / "missing.ckpt")
    text = tmp_path / "text.ckpt"
    text.write_text("KIRK: Engage.")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    torch.save({"trek_lm": {"format": 99, "model": {}}, "state_dict": {}}, tmp_path / "newer.ckpt")
    for name in ("text", "foreign", "list"):
        with pytest.raises(UserError, match=rf"{name}\.ckpt: not a checkpoint"):
            CharLM.load(tmp_path / f"{name}.ckpt")
    with pytest.raises(UserError, match="newer trek-lm"):
        CharLM.load(tmp_path / "newer.ckpt")


class _RunsCode:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def test_a_checkpoint_with_code_in_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"trek_lm": _RunsCode()}, "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt: not a checkpoint"):
        CharLM.load("evil.ckpt")
    assert not Path("executed").exists()
