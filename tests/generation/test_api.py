import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.commands import PROJECT
from trek_lm.data.charset import Charset
from trek_lm.errors import UserError
from trek_lm.generation import steppers
from trek_lm.generation.api import CharLM
from trek_lm.models.char_lm import RecurrentLM


@pytest.fixture(params=["lstm", "gru"])
def model(request: pytest.FixtureRequest) -> CharLM:
    torch.manual_seed(0)
    charset = Charset.writeup()
    network = RecurrentLM(len(charset), cell=request.param, hidden=16, layers=2).eval()
    return CharLM(network, charset, {"KIRK": 30, "SPOCK": 10, "T'PAU": 1})


def test_line_depends_on_seed_and_number_only(model: CharLM) -> None:
    lines = model.generate(speaker="KIRK", n=8, seed=3, temperature=1.0, max_chars=60)
    assert lines == model.generate(speaker="KIRK", n=8, seed=3, temperature=1.0, max_chars=60)
    assert lines[:3] == model.generate(speaker="KIRK", n=3, seed=3, temperature=1.0, max_chars=60)
    assert lines != model.generate(speaker="KIRK", n=8, seed=4, temperature=1.0, max_chars=60)
    assert len(set(lines)) == 8


def test_generate_lines_and_stream_agree(model: CharLM) -> None:
    options: dict[str, Any] = {"n": 30, "seed": 3, "temperature": 0.8, "max_chars": 40}
    lines = model.generate(**options)
    assert [line.text for line in model.lines(**options)] == lines
    assert "".join(model.stream(**options)) == "\n".join(lines) + "\n"
    pieces = list(model.stream(speaker="KIRK", n=1, seed=3, max_chars=40))
    assert pieces[0] == "KIRK: "
    assert all(len(piece) == 1 for piece in pieces[1:])


@pytest.mark.slow
def test_batch_size_and_streaming_change_few_of_10000_lines(
    model: CharLM, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rounding depends on the batch size and may change a draw; the number is reported."""
    n = 10_000
    options: dict[str, Any] = {"seed": 5, "temperature": 0.8, "max_chars": 30}
    batched = model.generate(n=n, **options)
    streamed = "".join(model.stream(n=n, **options)).splitlines()
    changed = sum(one != other for one, other in zip(batched, streamed, strict=True))
    fewer = [model.generate(n=number, **options)[-1] for number in range(1, 100)]
    with capsys.disabled():
        print(f"\n{model.model.spec['cell']}: {changed} of {n} lines differ when streamed")
    assert changed <= n / 1000
    assert sum(one != other for one, other in zip(batched, fewer, strict=False)) <= 1


@pytest.mark.parametrize(("engine", "bits_off"), [("torch", 1e-5), ("native", 1e-12)])
def test_generated_log_prob_equals_score(
    model: CharLM, engine: str, bits_off: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log-probability is the sum over the drawn characters of the score of the line."""
    if engine == "torch":
        monkeypatch.setattr(steppers, "packed", lambda model: None)
    for line in model.lines(n=20, seed=2, temperature=0.7, max_chars=30):
        assert line.text.startswith(line.start)
        assert line.speaker == line.start.removesuffix(": ")
        score = model.score(line.text)
        before = len(line.start) - 1
        bits = score.bits[before : before + line.drawn]
        assert line.drawn in (len(line.text) - len(line.start), len(score.bits) - before)
        assert line.bits_per_char == pytest.approx(sum(bits) / line.drawn, abs=bits_off)


def test_plain_text_continues_after_newlines() -> None:
    charset = Charset.writeup()
    lm = CharLM(RecurrentLM(len(charset), hidden=8), charset, {})
    texts = lm.generate(n=20, seed=1, temperature=3.0, max_chars=100)
    assert all(len(text) == 100 for text in texts)
    assert any("\n" in text for text in texts)
    assert "".join(lm.stream(n=2, seed=1, temperature=3.0, max_chars=100)) == "".join(
        text + "\n" for text in texts[:2]
    )
    assert len(lm.score("Once\nupon").bits) == len("Once\nupon") - 1


def test_draws_follow_the_models_distribution(model: CharLM) -> None:
    """Frequencies of the first drawn character are softmax(logits / temperature)."""
    n, temperature = 20_000, 0.7
    lines = model.generate(prompt="SPOCK: Fasc", n=n, max_chars=1, temperature=temperature, seed=0)
    ids = model.charset.encode("SPOCK: Fasc").long()
    logits = model.model(ids[:, None])[0][-1, 0]
    expected = (logits / temperature).softmax(-1)
    drawn = [line.removeprefix("SPOCK: Fasc") or "\n" for line in lines]
    counts = torch.tensor([drawn.count(character) for character in model.charset.characters])
    # Five standard deviations of a binomial count.
    spread = 5 * (n * expected * (1 - expected)).sqrt() + 1
    assert bool(((counts - n * expected).abs() < spread).all())


def test_teacher_forced(model: CharLM) -> None:
    """It is the first character, then the likeliest one after each true prefix."""
    line = "KIRK: Fascin\N{LATIN SMALL LETTER A WITH ACUTE}ting."
    read = model.charset.normalise(line)
    expected = read[0]
    for end in range(1, len(read) + 1):
        logits, _ = model.model(model.charset.encode(read[:end]).long()[:, None])
        expected += model.charset.characters[int(logits[-1, 0].argmax())]
    model.model.train()
    assert model.teacher_forced(line) == expected
    assert model.model.training


@pytest.mark.parametrize("options", [{"greedy": True}, {"temperature": 1e-6}, {"top_k": 1}])
def test_greedy_is_the_argmax_after_each_prefix(model: CharLM, options: dict[str, Any]) -> None:
    (line,) = model.generate(prompt="KIRK: ", n=1, max_chars=10, seed=1, **options)
    text = "KIRK: "
    for _ in range(10):
        ids = model.charset.encode(text).long()
        text += model.charset.characters[int(model.model(ids[:, None])[0][-1, 0].argmax())]
    assert line == text.split("\n")[0]


def test_line_ends_at_newline(model: CharLM) -> None:
    with torch.no_grad():
        head = model.model.head
        assert isinstance(head, torch.nn.Linear)
        head.bias[model.charset.newline_id] = 100.0
    assert model.generate(speaker="KIRK", n=2) == ["KIRK: ", "KIRK: "]


def test_unknown_character_is_never_generated() -> None:
    charset = Charset.of(["AB: yes.\n"])
    lm = CharLM(RecurrentLM(len(charset), hidden=4), charset, {"AB": 1})
    assert charset.unknown_id is not None
    assert "\ufffd" not in "".join(lm.generate(n=50, temperature=5.0, seed=0, max_chars=50))


def test_generate_keeps_training_mode(model: CharLM) -> None:
    model.model.train()
    model.generate(n=1, max_chars=2)
    assert model.model.training


def test_python_api_imports_neither_lightning_nor_hydra(run_folder: Path) -> None:
    """Nor anything that needs them."""
    program = f"""
import sys
from trek_lm import CharLM
lm = CharLM.load({str(run_folder / "checkpoints" / "best.ckpt")!r})
lines = lm.generate(speaker="ADA", n=5, seed=1)
assert len(lines) == 5 and all(line.startswith("ADA: ") for line in lines)
assert "".join(lm.stream(speaker="ADA", n=5, seed=1)).splitlines() == lines
assert lm.score(lines[0]).bits_per_char > 0
heavy = {{"hydra", "omegaconf", "pytorch_lightning", "torchmetrics", "tensorboard"}}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_gpu_checkpoint_loads_on_cpu(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = run_folder / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    # The location that torch.save writes for each tensor on a GPU.
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
    torch.save(checkpoint, tmp_path / "gpu.ckpt")
    monkeypatch.undo()
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(tmp_path / "gpu.ckpt", weights_only=True)
    lines = CharLM.load(tmp_path / "gpu.ckpt").generate(n=3, seed=1)
    assert lines == CharLM.load(best).generate(n=3, seed=1)


def test_load_checkpoint(run_folder: Path) -> None:
    lm = CharLM.load(run_folder / "checkpoints" / "best.ckpt")
    assert dict(lm.speakers) == {"ADA": 60, "BRAN": 60}
    assert not lm.model.training
    assert lm.generate(speaker="ada", n=2, seed=1)[0].startswith("ADA: ")


def test_invalid_checkpoints_are_refused(tmp_path: Path) -> None:
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
    with pytest.raises(UserError, match=r"newer\.ckpt: .*newer trek-lm \(format 99\)"):
        CharLM.load(tmp_path / "newer.ckpt")


SINCE = {2: ("ngram_dropout", "matches", "match_rows"), 1: ("weight_drop", "ngrams", "ngram_rows")}


@pytest.mark.parametrize("before", [1, 2])
def test_older_checkpoint_formats_load(run_folder: Path, tmp_path: Path, before: int) -> None:
    """Its spec lacks the keys of later formats; the model then lacks these parts."""
    best = run_folder / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    checkpoint["trek_lm"]["format"] = before
    spec = checkpoint["trek_lm"]["model"]
    spec["symbols"] = spec.pop("vocab_size")
    for number, keys in SINCE.items():
        for key in keys if before <= number else ():
            del spec[key]
    torch.save(checkpoint, tmp_path / "before.ckpt")
    lines = CharLM.load(best).generate(n=3, seed=1)
    assert CharLM.load(tmp_path / "before.ckpt").generate(n=3, seed=1) == lines
    if before == 2:
        spec["ngrams"] = 5  # each length had its own table
        torch.save(checkpoint, tmp_path / "ngrams.ckpt")
        with pytest.raises(UserError, match=r"ngrams\.ckpt: its n-grams are of an older trek-lm"):
            CharLM.load(tmp_path / "ngrams.ckpt")


def test_diverged_model_is_refused(run_folder: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run_folder / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["state_dict"]["model.head.bias"][0] = float("nan")
    torch.save(checkpoint, tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match=r"nan\.ckpt: this model diverged in training"):
        CharLM.load(tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match="a folder; give a checkpoint in it"):
        CharLM.load(run_folder)


@pytest.mark.parametrize("options", [{"speaker": "Q"}, {"prompt": "\u20ac"}, {"temperature": 0}])
def test_invalid_options_raise_before_iteration(model: CharLM, options: dict[str, Any]) -> None:
    """Not only when the first line is requested."""
    for method in (model.generate, model.lines, model.stream):
        with pytest.raises(UserError):
            method(**options)


class _RunsCode:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def test_checkpoint_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"trek_lm": _RunsCode()}, "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt: not a checkpoint"):
        CharLM.load("evil.ckpt")
    assert not Path("executed").exists()
