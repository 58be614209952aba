import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import train
from tests.support.commands import RunHere
from trek_lm.errors import UserError
from trek_lm.overrides import BASES, CONF, SUCCESSORS, check_added, check_names, quote_text


def parsed(argument: str) -> object:
    """The value that Hydra and OmegaConf parse from an argument."""
    (quoted,) = quote_text([argument], ["text", "data.root", "names[]"])
    (override,) = OverridesParser.create().parse_overrides([quoted])
    return OmegaConf.create({"value": override.value()}).value


@pytest.mark.parametrize(
    "text",
    [
        *("T'PAU", "KIRK: I'm", "KIRK: Go!", "KIRK: Well, Jim", "~/x.txt", "", "C:\\lines\\"),
        *("outputs/sweeps/x/model.hidden=100 (1)/checkpoints/best.ckpt", "say ${this}", "a=b"),
        *("'", "\\'", "it's {not} [a] list", "[nor, this]", "5", "true", "x\\\\'y", "trailing\\\\"),
        *("\\${a}", "\\\\${a}'s"),
    ],
)
def test_text_is_taken_literally(text: str) -> None:
    assert parsed(f"text={text}") == text


SIGNS = ["\\", "$", "{", "${", "}", "'", '"', "a"]  # of Hydra's grammar


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=40)
    | st.lists(st.sampled_from(SIGNS), max_size=9).map("".join)
)
def test_any_text_is_taken_literally(text: str) -> None:
    if not re.fullmatch(r"'.*'|\".*\"|null", text, re.DOTALL):
        assert parsed(f"text={text}") == text


@pytest.mark.parametrize("typed", ["text=???", "data.root='???'", "names=[KIRK,???]"])
def test_question_marks_are_refused(typed: str) -> None:
    with pytest.raises(UserError, match=r"=.*\?\?\?.*: in a config \?\?\? means a missing value"):
        parsed(typed)


def test_quoted_values_and_lists_are_unchanged() -> None:
    assert parsed("text='a, b'") == "a, b"
    assert parsed('text="a, b"') == "a, b"
    assert parsed("names=[KIRK, T'PAU,'A: b']") == ["KIRK", "T'PAU", "A: b"]
    assert parsed("names=[]") == []
    assert parsed("names=T'PAU") == "T'PAU"
    assert parsed("text=null") is None
    assert quote_text(["model.hidden=1,2", "-m", "--help"], ["text"]) == [
        *("model.hidden=1,2", "-m", "--help"),
    ]


def typed(name: str) -> list[str]:
    """A key or GROUP=OPTION in all forms of Hydra's grammar."""
    key, equals, option = name.partition("=")
    if equals:
        return [
            name,
            f"+{name}",
            f"++{name}",
            f"~{name}",
            f"{key}=sgd,{option}",
            f"{key}=[{option}]",
        ]
    forms = [f"{prefix}{name}=1" for prefix in ("", "+", "++")]
    return [*forms, f"~{name}", f"{name}=1,2", f"{name}.deeper=1"]


@pytest.mark.parametrize(("old", "new"), SUCCESSORS.items())
def test_renamed_names_are_refused_with_their_successors(old: str, new: str) -> None:
    for argument in typed(old):
        with pytest.raises(UserError) as raised:
            check_names(["-m", "model=lstm", argument])
        message = str(raised.value)
        assert message.startswith(old)
        assert (f"use {new}" if new else "leave it out") in message


@pytest.mark.parametrize("new", [new for new in SUCCESSORS.values() if new])
def test_successors_exist(new: str) -> None:
    options = [part for part in new.split() if "=" in part]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", options)
    assert options or OmegaConf.select(config, new) is not None


@pytest.mark.parametrize("group", BASES)
def test_base_configs_are_not_options(group: str) -> None:
    others = ", ".join(sorted(p.stem for p in (CONF / group).glob("*.yaml") if p.stem != "default"))
    for argument in (f"{group}=default", f"{group}=default,{others.split(', ')[0]}"):
        with pytest.raises(UserError, match=f"^{argument}: give one of {others}, or leave it out"):
            check_names([argument])


def test_other_names_are_accepted() -> None:
    check_names(["callbacks=default", "debug=default", "prompt=optim", "optim.lr=0.1", "n=3", "-m"])
    check_names(["callbacks.dashboard.lines=0", "data=files", "optim=sgd_writeup", "--cfg", "job"])


@pytest.mark.parametrize(
    "argument",
    [
        *("+experiment=fast", "+debug=fdr", "+model.hidden=3", "++trainer.profiler=simple"),
        *("+callbacks.stop.patience=2", "+hydra.launcher.n_jobs=2", "+optim.optimizer.eps=1e-7"),
        *("+data.source.url=x", "+logger.version=1", "++seed=3", "-m", "~model"),
    ],
)
def test_added_keys_that_something_reads(argument: str) -> None:
    check_added([argument])


def test_a_users_conf_may_read_any_key() -> None:
    check_added(["hydra.searchpath=[file:///mine]", "+local=laptop"])
    with pytest.raises(UserError, match="local: no such key; see --help"):
        check_added(["+local=laptop"])


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ("data: {steps: 32}", "data.steps: no longer exists, use data.sequence_length"),
        ("callbacks: {guard: {mode: skip}}", "callbacks.guard: .* use callbacks.gradient_guard"),
        (
            "callbacks: {last: {every_minutes: 1}}",
            "every_minutes: .* use checkpoint.every_minutes",
        ),
        ("defaults: [{override /optim: adamw_fast}]", "optim=adamw_fast: .* optim.lr=0.024"),
        ("hydra: {mode: MULTIRUN, sweeper: {params: {data.steps: 1}}}", "data.steps: no longer"),
    ],
)
def test_renamed_key_in_a_users_file_is_refused(
    experiment: str,
    message: str,
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/old.yaml").write_text(f"# @package _global_\n{experiment}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        run_here(train, f"hydra.searchpath=[file://{tmp_path}/mine]", "experiment=old")
    assert left.value.code == 2
    assert re.match(f"error: .*{message}", capsys.readouterr().err)
