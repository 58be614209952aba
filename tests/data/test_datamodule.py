import logging
from pathlib import Path

import pytest

from tests.support.corpora import data_from, write_episodes
from trek_lm.data.batching import BatchSource, LineBatches, StreamBatches
from trek_lm.errors import UserError


def test_splits_cover_every_character(corpus: Path) -> None:
    data = data_from(corpus, test_fraction=0.3)
    report = data.corpus.report
    # A line's first character is given, every other one predicted.
    assert sum(data.characters.values()) == report.characters - report.lines
    assert all(data.has(split) for split in ("train", "val", "test"))
    assert dict(data.speakers) == {"ADA": 60, "BRAN": 60}


def test_batch_by_characters_applies_to_training_only(corpus: Path) -> None:
    data = data_from(corpus, batch_size=4, batch_by="characters")
    training, test = data.train_dataloader(), data.test_dataloader()
    assert isinstance(training, LineBatches)
    assert isinstance(test, LineBatches)
    assert (training.even, test.even) == (True, False)


@pytest.mark.parametrize(("weigh_by", "equal"), [("characters", "divisor"), ("batches", "total")])
def test_weigh_by(corpus: Path, weigh_by: str, equal: str) -> None:
    data = data_from(corpus, batch_size=4, weigh_by=weigh_by)
    source = data.train_dataloader()
    found = {
        "divisor": {batch.divisor for batch in source},
        "total": {batch.characters / batch.divisor for batch in source},
    }
    assert {name for name, values in found.items() if len(values) == 1} == {equal}


def test_random_line_is_from_its_split(corpus: Path) -> None:
    data = data_from(corpus, split="line")
    drawn = {split: {data.random_line(split, n) for n in range(200)} for split in ("train", "test")}
    assert len(drawn["test"]) == 12
    assert len(drawn["train"]) > 60
    assert not drawn["test"] & drawn["train"]
    assert all(line.startswith(("ADA: ", "BRAN: ")) for line in drawn["test"])
    assert data.random_line("test", 3) == data.random_line("test", 3)


def test_test_split_is_independent_of_val_fraction(corpus: Path) -> None:
    with_val, without = data_from(corpus), data_from(corpus, val_fraction=0.0)
    first, second = with_val.test_dataloader(), without.test_dataloader()
    assert isinstance(first, BatchSource)
    assert isinstance(second, BatchSource)
    assert [b.inputs.tolist() for b in first] == [b.inputs.tolist() for b in second]
    assert without.val_dataloader() == []
    assert not without.has("val")


def test_batching_selects_line_or_stream_batches(corpus: Path) -> None:
    lines, stream = (
        data_from(corpus).train_dataloader(),
        data_from(corpus, batching="stream"),
    )
    assert isinstance(lines, LineBatches)
    assert isinstance(stream.train_dataloader(), StreamBatches)
    # In a stream the first character of a line is predicted too.
    assert stream.characters["train"] > lines.characters


def test_corpus_charset_is_that_of_the_training_split(tmp_path: Path) -> None:
    write_episodes(tmp_path)
    (tmp_path / "99.txt").write_text("ADA: \u20ac 5.\n" * 12)  # the last file: in the test split
    data = data_from(tmp_path, charset="corpus", split="position")
    given = "".join(episode.text for episode in data.corpus.episodes)
    assert set(data.charset.characters) == set("\n\ufffd") | (set(given) - {"\u20ac"})
    test = data.test_dataloader()
    assert isinstance(test, BatchSource)
    assert any(data.charset.unknown_id in batch.inputs for batch in test)


def test_long_lines_are_cut(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = data_from(corpus, max_chars=20)
    assert max(len(b.inputs) for b in data.train_dataloader()) == 19
    assert "lines to data.max_chars=20" in caplog.text


def test_corpus_report_is_logged(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data_from(corpus, split="line")
    assert "files: 10 files (script), 10 episodes, 120 lines, " in caplog.text
    assert "2 speakers; skipped: 20 header, 10 scene" in caplog.text
    assert "split by line: train 96 lines, val 12 lines, test 12 lines; " in caplog.text


@pytest.mark.parametrize("charset", ["writeup", "corpus", "all"])
def test_warning_if_charset_drops_much_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, charset: str
) -> None:
    """10 of the 14 characters of a line are outside the write-up's charset."""
    (tmp_path / "1.txt").write_text(
        "\u041a\u0418\u0420\u041a: \u0412\u043f\u0435\u0440\u0451\u0434.\n" * 30
    )
    data_from(tmp_path, split="line", charset=charset)
    warned = "data.charset=writeup drops 300 characters of 420 (71%); data.charset=corpus keeps"
    assert (warned in caplog.text) == (charset == "writeup")


def test_warning_if_corpus_exceeds_256_characters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    signs = "".join(chr(0x4E00 + number) for number in range(600))
    (tmp_path / "1.txt").write_text("".join(f"ADA: {sign}\n" for sign in signs))
    data = data_from(tmp_path, split="line", charset="corpus", val_fraction=0)
    kept = len(data.charset) - 2  # without the newline and the unknown character
    total = 600 * len("ADA: x\n")
    lost = 600 - (kept - len(set("ADA: ")))
    assert f"lacks {lost} characters of {total:,} (" in caplog.text


def test_speaker_names_are_normalised(tmp_path: Path) -> None:
    """A name with no character of the charset is kept."""
    said = (
        "CREWMAN #2: Aye.\nCREWMAN 2: Aye, sir.\nREN\u00c9: Oui.\n\u041a\u0418\u0420\u041a: Go.\n"
    )
    (tmp_path / "1.txt").write_text(said * 10)
    data = data_from(tmp_path, split="line")
    assert dict(data.speakers) == {"CREWMAN 2": 20, "RENE": 10, "\u041a\u0418\u0420\u041a": 10}
    assert set(data.corpus.report.speakers) >= {"CREWMAN #2", "CREWMAN 2"}
    whole = data_from(tmp_path, split="line", charset="all")
    assert whole.speakers == data.corpus.report.speakers


def test_no_warning_for_accents_and_rare_characters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accented = "ADA: De\u0301ja\u0300 vu, ve\u0301rite\u0301.\n" * 30
    (tmp_path / "1.txt").write_text(accented + "ADA: \u20ac5\n")
    data_from(tmp_path, split="line")
    assert "data.charset" not in caplog.text


def test_plain_text_requires_stream_batching(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("Once upon a time.\n\nThe end.\n")
    with pytest.raises(UserError, match=r"add data\.batching=stream"):
        data_from(path, format="text", split="position")
    data = data_from(path, format="text", split="position", batching="stream", charset="all")
    assert data.charset.decode(data._encoded["train"].text) == path.read_text()


def test_padding_on_star_trek_is_small(tos: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At most 5% at batch 32."""
    source = data_from(tos, batch_size=32).train_dataloader()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert isinstance(source, LineBatches)
    cells = sum(batch.targets.numel() for batch in source)
    assert 0.95 < source.characters / cells <= 1
