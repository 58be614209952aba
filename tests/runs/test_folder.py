import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trek_lm.errors import UserError
from trek_lm.runs.folder import (
    METRICS,
    differences,
    flat,
    make_unused,
    objective,
    read_metrics,
    read_yaml,
    write_metrics,
)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"val/loss": 1.5, "train/loss": 0.5}, 1.5),
        ({"val/loss": 0.0, "train/loss": 0.5}, 0.0),
        ({"val/loss": None, "train/loss": 0.5}, 0.5),
        ({"train/loss": 2}, 2.0),
        ({"val/loss": None, "train/loss": None}, math.inf),
        ({}, math.inf),
    ],
)
def test_runs_are_ranked_by_validation_or_train_loss(
    metrics: dict[str, float | None], expected: float
) -> None:
    assert objective(metrics) == expected


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "null", b"\xff"])
def test_run_with_unreadable_metrics_is_unfinished(
    content: str | bytes | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / METRICS).write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    assert read_metrics(tmp_path) == {}


def test_metrics_round_trip(tmp_path: Path) -> None:
    metrics = {"val/loss": 1.25, "test/acc": None, "status": "finished"}
    write_metrics(tmp_path, metrics)
    assert read_metrics(tmp_path) == metrics


def test_metrics_that_are_not_json_are_refused(tmp_path: Path) -> None:
    """Other JSON readers refuse Python's NaN and Infinity."""
    write_metrics(tmp_path, {"val/loss": 1.25})
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_metrics(tmp_path, {"val/loss": value})
    assert json.loads((tmp_path / METRICS).read_text()) == {"val/loss": 1.25}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.yaml", None),
        ("broken.yaml", b"a: [1"),
        ("tabs.yaml", b"a:\n\t- b"),
        ("bytes.yaml", b"a: \xff"),
    ],
)
def test_unreadable_settings_are_one_line(name: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_yaml(path)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{path}: cannot be read (")


def test_interpolations_stay_unresolved(tmp_path: Path) -> None:
    """Only Hydra can resolve `${now:...}`, and only while it runs."""
    (tmp_path / "config.yaml").write_text("a: ${b}\nc:\n- 1\n- ${now:%H}\n")
    assert read_yaml(tmp_path / "config.yaml") == {"a": "${b}", "c": [1, "${now:%H}"]}


def test_flattened_keys_are_dotted() -> None:
    tree = {"a": {"b": 1, "c": {"d": None}}, "e": [{"f": 2}], "g": {}}
    assert flat(tree) == {"a.b": 1, "a.c.d": None, "e": [{"f": 2}], "g": {}}
    assert flat(tree["a"], "x") == {"x.b": 1, "x.c.d": None}


def test_differences_show_both_values() -> None:
    before = {"model": {"hidden": 5, "head": "linear"}, "seed": 1, "trainer": {"devices": 1}}
    now = {"model": {"hidden": 7, "cell": None}, "seed": 1, "trainer": {"devices": 2}}
    assert list(differences(before, now, ("trainer",))) == [
        "model.cell: (nothing) -> None",
        "model.head: linear -> (nothing)",
        "model.hidden: 5 -> 7",
    ]
    assert list(differences(before, before, ())) == []


def test_ignored_keys_match_whole_names() -> None:
    assert list(differences({"seed": 1}, {"seed": 2}, ("see",))) == ["seed: 1 -> 2"]


def test_concurrent_runs_get_separate_folders(tmp_path: Path) -> None:
    wanted = str(tmp_path / "day" / "12-00-00")
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(make_unused, [wanted] * 16))
    assert sorted(made) == sorted([wanted, *(f"{wanted}_{number}" for number in range(2, 17))])
    assert all(Path(folder).is_dir() for folder in made)
