import errno
import re
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, InstantiationException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from trek_lm import cli, overrides
from trek_lm.errors import UserError


def parsed(argument: str) -> object:
    """What Hydra and OmegaConf make of an argument."""
    (quoted,) = overrides.quote_text([argument], ["text", "data.root", "names[]"])
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
def test_text_means_what_it_says(text: str) -> None:
    assert parsed(f"text={text}") == text


SIGNS = ["\\", "$", "{", "${", "}", "'", '"', "a"]  # of Hydra's grammar


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=40)
    | st.lists(st.sampled_from(SIGNS), max_size=9).map("".join)
)
def test_any_text_survives(text: str) -> None:
    if not re.fullmatch(r"'.*'|\".*\"|null", text, re.DOTALL):
        assert parsed(f"text={text}") == text


@pytest.mark.parametrize("typed", ["text=???", "data.root='???'", "names=[KIRK,???]"])
def test_what_a_config_takes_for_no_value_is_refused(typed: str) -> None:
    with pytest.raises(UserError, match=r"=.*\?\?\?.*: in a config it means no value"):
        parsed(typed)


def test_what_is_quoted_already_and_lists_stay() -> None:
    assert parsed("text='a, b'") == "a, b"
    assert parsed('text="a, b"') == "a, b"
    assert parsed("names=[KIRK, T'PAU,'A: b']") == ["KIRK", "T'PAU", "A: b"]
    assert parsed("names=[]") == []
    assert parsed("names=T'PAU") == "T'PAU"
    assert parsed("text=null") is None
    assert overrides.quote_text(["model.hidden=1,2", "-m", "--help"], ["text"]) == [
        *("model.hidden=1,2", "-m", "--help"),
    ]


def test_a_users_mistake_is_found_wherever_it_was_wrapped() -> None:
    wrapped = InstantiationException("Error in call to target")
    wrapped.__cause__ = UserError("model.hidden=0: must be above 0")
    assert cli.user_message(wrapped) == "model.hidden=0: must be above 0"


def test_messages_of_hydra_fit_on_one_line() -> None:
    error = ConfigCompositionException(
        "Could not override 'model.hiden'.\nTo append to your config use +model.hiden=3\n"
        "\nConfig search path:\n\tprovider=main"
    )
    assert cli.user_message(error) == (
        "Could not override 'model.hiden'.; To append to your config use +model.hiden=3"
    )


@pytest.fixture(autouse=True)
def argv(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cli.run` changes both; restored after the test."""
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


def test_an_error_of_the_system_names_the_file() -> None:
    with pytest.raises(OSError, match="too long") as raised:
        Path("/" + "x" * 300).read_bytes()
    assert cli.user_message(raised.value) == f"/{'x' * 300}: File name too long"


def test_a_file_is_named_as_text() -> None:
    error = OSError(errno.EROFS, "Read-only file system", b"run/events")
    assert cli.user_message(error) == "run/events: Read-only file system"


def test_other_errors_keep_their_traceback() -> None:
    assert cli.user_message(ZeroDivisionError()) is None
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0, [])


def test_one_line_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> None:
        raise UserError("this file is empty")

    with pytest.raises(SystemExit) as left:
        cli.run(mistaken, [])
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: this file is empty\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
        type("OutOfMemoryError", (RuntimeError,), {})(
            "CUDA out of memory. Tried to allocate 2 GiB"
        ),
    ],
)
def test_memory_that_is_not_there_is_no_bug(error: Exception) -> None:
    assert str(cli.user_message(error)).startswith("out of memory; try a smaller model.hidden")


def test_a_launcher_that_is_not_installed() -> None:
    error = ConfigCompositionException("Could not find 'hydra/launcher/ray'\n\nAvailable: basic")
    assert str(cli.user_message(error)).endswith("; pip install -e '.[ray]' brings it")
