import errno
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException, InstantiationException

from trek_lm import cli
from trek_lm.errors import UserError


def test_user_error_is_found_among_the_causes() -> None:
    wrapped = InstantiationException("Error in call to target")
    wrapped.__cause__ = UserError("model.hidden=0: must be above 0")
    assert cli.user_message(wrapped) == "model.hidden=0: must be above 0"


def test_hydra_error_becomes_one_line() -> None:
    error = ConfigCompositionException(
        "Could not override 'trainer.profiler'.\nTo append to your config use +trainer.profiler=3\n"
        "\nConfig search path:\n\tprovider=main"
    )
    assert cli.user_message(error) == (
        "Could not override 'trainer.profiler'.; To append to your config use +trainer.profiler=3"
    )


@pytest.fixture(autouse=True)
def argv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores after the test what `cli.run` changes."""
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


def test_os_error_names_the_file() -> None:
    with pytest.raises(OSError, match="too long") as raised:
        Path("/" + "x" * 300).read_bytes()
    assert cli.user_message(raised.value) == f"/{'x' * 300}: File name too long"


def test_file_name_in_bytes_is_decoded() -> None:
    error = OSError(errno.EROFS, "Read-only file system", b"run/events")
    assert cli.user_message(error) == "run/events: Read-only file system"


def test_other_errors_keep_their_traceback() -> None:
    assert cli.user_message(ZeroDivisionError()) is None
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0, [])


def test_user_error_prints_one_line_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
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
def test_out_of_memory_suggests_smaller_settings(error: Exception) -> None:
    assert str(cli.user_message(error)).startswith("out of memory; try a smaller model.hidden")


def test_missing_launcher_names_its_extra() -> None:
    error = ConfigCompositionException("Could not find 'hydra/launcher/ray'\n\nAvailable: basic")
    assert str(cli.user_message(error)).endswith("; install it with: pip install -e '.[ray]'")
