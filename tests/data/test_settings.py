from functools import partial
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.support.commands import PROJECT
from trek_lm.data.corpora import BundledSource
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.data.formats.registry import FORMATS
from trek_lm.data.formats.script import LABELS
from trek_lm.data.settings import DataSettings
from trek_lm.errors import UserError


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 0, "greater than or equal to 1"),
        ("eval_batch_size", -1, "greater than or equal to 1"),
        ("batch_size", True, "a valid integer"),
        ("sequence_length", 1.5, "a valid integer"),
        ("max_chars", 1, "greater than or equal to 2"),
        ("seed", 2**32, "less than"),
        ("seed", "x", "a valid integer"),
        ("batching", "words", "'lines' or 'stream'"),
        ("batch_by", "words", "'lines' or 'characters'"),
        ("weigh_by", "lines", "'characters' or 'batches'"),
        ("split", "chapter", "'episode', 'line' or 'position'"),
        ("charset", "klingon", "'writeup', 'corpus' or 'all'"),
        ("format", "pdf", "'auto', .*'script'"),
        ("labels", "bold", "'capitals', 'mixed' or 'any'"),
        ("val_fraction", "ten", "a valid number"),
        ("val_fraction", -0.1, "greater than or equal to 0"),
        ("test_fraction", None, "a valid number"),
        ("test_fraction", 1.5, "less than 1"),
        ("tempo", 3, "Unexpected keyword"),
    ],
)
def test_values_out_of_bounds(key: str, value: object, message: str) -> None:
    options: dict[str, Any] = {key: value}
    with pytest.raises(UserError, match=rf"^data\.{key}={value}: .*{message}"):
        TranscriptDataModule(BundledSource, **options)


def test_conflicting_values() -> None:
    for val, test in ((0.5, 0.6), (0.5, 0.5)):
        with pytest.raises(UserError, match=f"sum to {val + test:g}: must be less than 1"):
            DataSettings(val_fraction=val, test_fraction=test)
    with pytest.raises(UserError, match=r"data\.batch_by=characters: a stream has no lines"):
        DataSettings(batch_by="characters", batching="stream")


def test_series_may_be_one_or_a_list() -> None:
    for series, names in ((None, ()), ("TOS", ("TOS",)), (5, ("5",)), ([1, "TOS"], ("1", "TOS"))):
        assert DataSettings(series=series).reading.series == names  # type: ignore[arg-type]


def test_formats_and_labels_match_their_modules() -> None:
    for name in FORMATS:
        assert DataSettings(format=name).reading.format == name
    for labels in LABELS:
        assert DataSettings(labels=labels).reading.labels == labels  # type: ignore[arg-type]


def test_config_matches_defaults() -> None:
    """Except those that depend on the run or the corpus."""
    config: Any = OmegaConf.load(PROJECT / "conf/data/default.yaml")
    for name, default in vars(DataSettings()).items():
        assert name in ("seed", "epochs") or config[name] == default


def test_config_lists_become_plain_lists() -> None:
    config: Any = OmegaConf.load(PROJECT / "conf/data/default.yaml")
    config.merge_with({"seed": 1, "series": ["TOS", "TNG"]})
    del config["source"]
    data = instantiate(config, source=partial(BundledSource, "bundled"))
    assert type(data.settings.series) is list
