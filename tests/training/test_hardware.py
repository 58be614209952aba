import random
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from trek_lm.errors import UserError
from trek_lm.models.cells import CELLS
from trek_lm.training import hardware
from trek_lm.training.hardware import (
    choose_engine,
    choose_precision,
    quiet,
    random_state,
    seed_everything,
    set_random_state,
)


def test_given_precision_is_kept() -> None:
    assert choose_precision("64-true", "cpu") == "64-true"
    assert choose_precision(32, "gpu") == 32


@pytest.mark.parametrize(
    ("bf16", "amx", "expected"),
    [
        (False, False, "32-true"),
        (True, False, "bf16-mixed"),
        (False, True, "bf16-mixed"),
    ],
)
def test_auto_precision_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, amx: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_precision("auto", "cpu") == expected


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_precision_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert choose_precision("auto", "cuda") == expected


CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("engine", ["torch", "reference"])
def test_given_engine_is_kept(engine: str) -> None:
    assert choose_engine(engine, "gru", CPU, "bf16-mixed") == engine


@pytest.mark.parametrize(
    ("cell", "device", "precision", "has", "expected"),
    [
        ("lstm", CPU, "bf16-mixed", {"avx2"}, "native"),
        ("lstm", CPU, "bf16-mixed", {"avx2", "amx"}, "torch"),
        ("gru", CPU, "bf16-mixed", {"avx2", "amx"}, "native"),
        ("gru", CPU, "bf16-mixed", set(), "torch"),
        ("lstm", CPU, "32-true", {"avx2"}, "native"),
        ("lstm", CPU, "32-true", {"avx2", "amx"}, "native"),
        ("lstm", CPU, "32-true", set(), "torch"),
        ("gru", CPU, "64-true", {"avx2"}, "torch"),
        ("gru", GPU, "bf16-mixed", {"avx2"}, "torch"),
    ],
)
def test_auto_engine_is_the_fastest(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cell: str,
    device: torch.device,
    precision: str,
    has: set[str],
    expected: str,
) -> None:
    """The log names it."""
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: "avx2" in has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx" in has)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(hardware, "library", lambda name: "built")
    with caplog.at_level("INFO"):
        assert choose_engine("auto", cell, device, precision) == expected
    assert caplog.messages == [f"engine: {expected} on {device.type}, {precision}"]


def test_auto_engine_of_a_cell_without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: True)
    monkeypatch.setattr(hardware, "library", lambda name: "built")
    monkeypatch.setitem(CELLS, "own", {"torch": torch.nn.GRU})
    assert choose_engine("auto", "own", CPU, "32-true") == "torch"
    assert choose_engine("auto", "gru", CPU, "32-true") == "native"


@pytest.mark.parametrize(("device", "precision"), [(GPU, "bf16-mixed"), (CPU, "64-true")])
def test_native_engine_is_refused_on_unsupported_hardware(
    device: torch.device, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a run resumes on a GPU: the engine used instead is logged and recorded."""
    with caplog.at_level("INFO"):
        assert choose_engine("native", "lstm", device, precision) == "torch"
    assert f"engine: torch on {device.type}, {precision}; native needs a CPU and" in caplog.text


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_bf16_without_torch_support_is_refused(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, where torch's LSTM would fail at the first step; only that cell and engine."""
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(hardware, "library", lambda name: "built")
    assert choose_engine("native", "lstm", CPU, "bf16-mixed") == "native"
    assert choose_engine("auto", "lstm", CPU, "bf16-mixed") == "native"
    monkeypatch.setattr(hardware, "library", lambda name: None)
    with pytest.raises(UserError, match=r"trainer\.precision=bf16-mixed: .* choose 32-true"):
        choose_engine(engine, "lstm", CPU, "bf16-mixed")
    assert choose_engine(engine, "gru", CPU, "bf16-mixed") == "torch"
    assert choose_engine(engine, "lstm", CPU, "32-true") == "torch"
    assert choose_engine("reference", "lstm", CPU, "bf16-mixed") == "reference"


def test_auto_engine_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: True)
    monkeypatch.setattr(hardware, "library", lambda name: None)
    with caplog.at_level("INFO"):
        assert choose_engine("auto", "lstm", CPU, "32-true") == "torch"
    assert "engine: torch on cpu, 32-true; native is faster, but" in caplog.text
    with pytest.raises(UserError, match=r"model\.engine=native: it could not be built"):
        choose_engine("native", "lstm", CPU, "32-true")


def test_each_rank_has_its_own_seed() -> None:
    seed_everything(5)
    first = torch.rand(3)
    seed_everything(5)
    assert torch.equal(torch.rand(3), first)
    for seed in (-1, 2**32, "x", 1.5):
        with pytest.raises(UserError, match=f"seed={seed}"):
            seed_everything(seed)


@pytest.mark.parametrize("kept", [True, False])
def test_thread_tracebacks_are_not_printed_twice(
    kept: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TensorBoard's writer does when a disk fails: it keeps the error for the next write."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    quiet()

    class Writer(threading.Thread):
        exception: Exception | None = None

        def run(self) -> None:
            failed = OSError("no room")
            self.exception = failed if kept else None
            raise failed

    thread = Writer()
    thread.start()
    thread.join()
    assert ("no room" in capsys.readouterr().err) is not kept


def test_quiet_keeps_other_warnings() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quiet()
        for message in ("the loader does not have many workers which", "something else"):
            warnings.warn(message, UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["something else"]


def test_random_state_resumes(tmp_path: Path) -> None:
    def draw() -> list[float]:
        on_gpu = [float(torch.rand((), device="cuda"))] if torch.cuda.is_available() else []
        return [float(torch.rand(())), random.random(), float(np.random.rand()), *on_gpu]

    draw()  # a GPU's generator exists after its first use
    torch.save(random_state(), tmp_path / "state")
    expected = [draw(), draw()]
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert [draw(), draw()] == expected
