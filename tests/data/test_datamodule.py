import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_episodes
from trek_lm.data.batching import BatchSource, LineBatches, StreamBatches
from trek_lm.data.corpora import FilesSource
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.errors import UserError


def make(root: Path, **options: Any) -> TranscriptDataModule:
    data = TranscriptDataModule(partial(FilesSource, "files"), root=str(root), **options)
    data.prepare_data()
    data.setup()
    return data


def test_every_character_is_in_one_part(corpus: Path) -> None:
    data = make(corpus, test_fraction=0.3)
    report = data.corpus.report
    # A line's first character is given, every other one predicted.
    assert sum(data.characters.values()) == report.characters - report.lines
    assert all(data.has(part) for part in ("train", "val", "test"))
    assert dict(data.speakers) == {"ADA": 60, "BRAN": 60}


def test_batches_by_characters_are_for_training(corpus: Path) -> None:
    data = make(corpus, batch_size=4, batch_by="characters")
    training, test = data.train_dataloader(), data.test_dataloader()
    assert isinstance(training, LineBatches)
    assert isinstance(test, LineBatches)
    assert (training.even, test.even) == (True, False)


@pytest.mark.parametrize(("weigh_by", "equal"), [("characters", "divisor"), ("batches", "total")])
def test_what_counts_the_same(corpus: Path, weigh_by: str, equal: str) -> None:
    data = make(corpus, batch_size=4, weigh_by=weigh_by)
    source = data.train_dataloader()
    found = {
        "divisor": {batch.divisor for batch in source},
        "total": {batch.characters / batch.divisor for batch in source},
    }
    assert {name for name, values in found.items() if len(values) == 1} == {equal}


def test_random_lines_are_those_of_their_part(corpus: Path) -> None:
    data = make(corpus, split="line")
    drawn = {part: {data.random_line(part, n) for n in range(200)} for part in ("train", "test")}
    assert len(drawn["test"]) == 12
    assert len(drawn["train"]) > 60
    assert not drawn["test"] & drawn["train"]
    assert all(line.startswith(("ADA: ", "BRAN: ")) for line in drawn["test"])
    assert data.random_line("test", 3) == data.random_line("test", 3)


def test_the_test_part_does_not_change_with_the_validation_part(corpus: Path) -> None:
    with_val, without = make(corpus), make(corpus, val_fraction=0.0)
    first, second = with_val.test_dataloader(), without.test_dataloader()
    assert isinstance(first, BatchSource)
    assert isinstance(second, BatchSource)
    assert [b.inputs.tolist() for b in first] == [b.inputs.tolist() for b in second]
    assert without.val_dataloader() == []
    assert not without.has("val")


def test_batching_by_name(corpus: Path) -> None:
    lines, stream = make(corpus).train_dataloader(), make(corpus, batching="stream")
    assert isinstance(lines, LineBatches)
    assert isinstance(stream.train_dataloader(), StreamBatches)
    # In a stream the first character of a line is predicted too.
    assert stream.characters["train"] > lines.characters


def test_a_charset_of_the_corpus_is_that_of_its_training_part(tmp_path: Path) -> None:
    write_episodes(tmp_path)
    (tmp_path / "99.txt").write_text("ADA: \u20ac 5.\n" * 12)  # the last of all: in the test part
    data = make(tmp_path, charset="corpus", split="position")
    given = "".join(episode.text for episode in data.corpus.episodes)
    assert set(data.charset.symbols) == set("\n\ufffd") | (set(given) - {"\u20ac"})
    test = data.test_dataloader()
    assert isinstance(test, BatchSource)
    assert any(data.charset.unknown_id in batch.inputs for batch in test)


def test_long_lines_are_cut(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make(corpus, max_chars=20)
    assert max(len(b.inputs) for b in data.train_dataloader()) == 19
    assert "lines are cut to data.max_chars=20" in caplog.text


def test_what_was_read_is_reported(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    make(corpus, split="line")
    assert "files: 10 files (script), 10 episodes, 120 lines, " in caplog.text
    assert "2 speakers; skipped: 20 header, 10 scene" in caplog.text
    assert "split by line: train 96 lines, val 12 lines, test 12 lines; " in caplog.text


@pytest.mark.parametrize("charset", ["writeup", "corpus", "all"])
def test_a_charset_that_drops_much_of_the_text_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, charset: str
) -> None:
    """Ten letters of fourteen characters."""
    (tmp_path / "1.txt").write_text(
        "\u041a\u0418\u0420\u041a: \u0412\u043f\u0435\u0440\u0451\u0434.\n" * 30
    )
    make(tmp_path, split="line", charset=charset)
    warned = "data.charset=writeup drops 300 characters of 420 (71%); data.charset=corpus keeps"
    assert (warned in caplog.text) == (charset == "writeup")


def test_a_script_with_more_characters_than_there_is_room_for_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    signs = "".join(chr(0x4E00 + number) for number in range(600))
    (tmp_path / "1.txt").write_text("".join(f"ADA: {sign}\n" for sign in signs))
    data = make(tmp_path, split="line", charset="corpus", val_fraction=0)
    kept = len(data.charset) - 2  # but for the newline and the unknown one
    total = 600 * len("ADA: x\n")
    lost = 600 - (kept - len(set("ADA: ")))
    assert f"has nothing for {lost} characters of {total:,} (" in caplog.text


def test_speakers_have_the_names_that_a_model_sees(tmp_path: Path) -> None:
    """One of whom the charset has nothing keeps the name."""
    said = (
        "CREWMAN #2: Aye.\nCREWMAN 2: Aye, sir.\nREN\u00c9: Oui.\n\u041a\u0418\u0420\u041a: Go.\n"
    )
    (tmp_path / "1.txt").write_text(said * 10)
    data = make(tmp_path, split="line")
    assert dict(data.speakers) == {"CREWMAN 2": 20, "RENE": 10, "\u041a\u0418\u0420\u041a": 10}
    assert set(data.corpus.report.speakers) >= {"CREWMAN #2", "CREWMAN 2"}
    whole = make(tmp_path, split="line", charset="all")
    assert whole.speakers == data.corpus.report.speakers


def test_accents_and_rare_signs_are_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accented = "ADA: De\u0301ja\u0300 vu, ve\u0301rite\u0301.\n" * 30
    (tmp_path / "1.txt").write_text(accented + "ADA: \u20ac5\n")
    make(tmp_path, split="line")
    assert "data.charset" not in caplog.text


def test_plain_text_is_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("Once upon a time.\n\nThe end.\n")
    with pytest.raises(UserError, match=r"add data\.batching=stream"):
        make(path, format="text", split="position")
    data = make(path, format="text", split="position", batching="stream", charset="all")
    assert data.charset.decode(data._encoded["train"].text) == path.read_text()


def test_padding_on_star_trek_is_small(tos: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At most 5% at batch 32."""
    source = make(tos, batch_size=32).train_dataloader()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert isinstance(source, LineBatches)
    cells = sum(batch.targets.numel() for batch in source)
    assert 0.95 < source.characters / cells <= 1
