"""`python train.py --help` is true."""

import re
from pathlib import Path

from tests.conftest import Cli


def test_help_names_groups_keys_and_examples(tmp_path: Path, run_cli: Cli) -> None:
    printed = run_cli("train.py", "--help", cwd=tmp_path).stdout
    conf = Path(__file__).parent.parent / "conf"
    for group in ("data", "model", "optim", "trainer", "callbacks", "experiment", "sweep"):
        assert f"{group}=" in printed
        for option in (conf / group).glob("*.yaml"):
            assert re.search(rf"\b{option.stem}\b", printed), option
    assert printed.split("Examples")[1].count("\n  python train.py") >= 5
    assert list(tmp_path.iterdir()) == []


def test_the_keys_and_values_in_the_help_are_those_of_the_config(
    tmp_path: Path, run_cli: Cli
) -> None:
    printed = run_cli("train.py", "--help", cwd=tmp_path).stdout
    keys = printed.split("Common keys")[1].split("Examples")[0]
    pairs = [
        pair
        for pair in re.findall(r"(\S+)=(\S+)", keys)
        if "|" not in pair[1] and pair[1] != "PATH"
    ]
    assert len(pairs) > 8
    config = run_cli("train.py", "--cfg", "job", "--resolve", cwd=tmp_path).stdout
    overridden = run_cli(
        "train.py",
        *(f"{key}={value}" for key, value in pairs),
        "--cfg",
        "job",
        "--resolve",
        cwd=tmp_path,
    ).stdout
    assert config == overridden
