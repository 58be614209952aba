"""Settings of this process and machine: precision, engine, random seeds, library warnings."""

import logging
import random
import threading
import warnings
from typing import Any

import numpy as np
import torch

from trek_lm.errors import UserError
from trek_lm.models.cells import CELLS
from trek_lm.models.native.build import library
from trek_lm.settings import Seed, settings

log = logging.getLogger(__name__)

NO_LIBRARY = "it could not be built; it needs a C compiler, cc or the one that CC names"


def choose_precision(wanted: object, accelerator: str) -> object:
    """Lightning's precision for `trainer.precision=auto`; returns any other value unchanged.

    bf16-mixed if the hardware multiplies bf16 fast, else fp32.
    """
    if wanted != "auto":
        return wanted
    if accelerator in ("cuda", "gpu", "auto") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # AVX-512 without its bf16 extension emulates bf16, which is slower than fp32.
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


def choose_engine(wanted: str, cell: str, device: torch.device, precision: str) -> str:
    """The cell's fastest engine for `model.engine=auto`, else `wanted`; logs it if it differs.

    Falls back to torch. Raises UserError for a native engine that can't be built, and for bf16
    where torch's LSTM doesn't support it.
    """
    engine, why = "torch" if wanted == "auto" else wanted, ""
    serves = device.type == "cpu" and precision in ("bf16-mixed", "32-true")
    # oneDNN's fused LSTM uses AMX for bf16; the native engine doesn't.
    slower = (cell, precision) == ("lstm", "bf16-mixed") and torch.cpu._is_amx_tile_supported()
    faster = "native" in CELLS.get(cell, ()) and torch.cpu._is_avx2_supported() and not slower
    if wanted == "native" and not serves:
        engine, why = "torch", "; native needs a CPU and bf16-mixed or 32-true"
    elif wanted == "native" and library("sequences") is None:
        raise UserError(f"model.engine=native: {NO_LIBRARY}; choose auto or torch")
    elif wanted == "auto" and serves and faster:
        if library("sequences") is None:
            why = f"; native is faster, but {NO_LIBRARY}"
        else:
            engine = "native"
    bf16_lstm = (cell, device.type, precision) == ("lstm", "cpu", "bf16-mixed")
    if engine == "torch" and bf16_lstm and not torch_has_bf16_lstm():
        raise UserError(
            "trainer.precision=bf16-mixed: torch's LSTM has no bf16 on this processor; choose"
            " 32-true, or model.engine=native, which needs a C compiler"
        )
    if engine != wanted:
        log.info("engine: %s on %s, %s%s", engine, device.type, precision, why)
    return engine


def torch_has_bf16_lstm() -> bool:
    """Whether `torch.nn.LSTM` works under autocast on this CPU; oneDNN's needs AVX-512."""
    mkldnn = torch.backends.mkldnn
    return not mkldnn.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@settings()
class Seeded:
    """The random seed of a run."""

    seed: Seed


def seed_everything(seed: Any) -> None:
    """Seeds every generator in use; raises UserError for an invalid seed."""
    import pytorch_lightning as pl

    pl.seed_everything(Seeded(seed=seed).seed, verbose=False)


def random_state() -> dict[str, Any]:
    """The state of every generator in use, as tensors, numbers and lists of them."""
    kind, key, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        # Only this process's device: a resumed run may have fewer.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
        "python": random.getstate(),
        "numpy": [kind, np.asarray(key).tolist(), *rest],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restores the state that `random_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state(state["cuda"][0])
    random.setstate(state["python"])
    np.random.set_state(tuple(state["numpy"]))


def quiet() -> None:
    """Silences library messages that repeat on every run or don't apply to this project."""
    logging.raiseExceptions = False  # ignore logs that a full disk refuses
    threading.excepthook = _report_unless_stored
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",  # our loader needs no workers
        ".*exists and is not empty.*",  # a run's folder already holds its log
        ".*isinstance.treespec.*",  # Lightning calls a function deprecated in torch
        ".*log_every_n_steps.*",  # an epoch may have fewer batches
        ".*callbacks used to create the checkpoint.*",  # Budget, if max_steps replaces it
        ".*could not find the monitored key.*",  # validation is turned off
        ".*across ranks is zero.*",  # no validation split
        ".*Sparse invariant checks.*",  # torch's AdaGrad makes a tensor from another's indices
        ".*sync_dist=True.*",  # torchmetrics already summed over ranks
    ):
        warnings.filterwarnings("ignore", message=message)


def _report_unless_stored(args: threading.ExceptHookArgs) -> None:
    # TensorBoard's writer thread stores its exception and raises it at the next write.
    if getattr(args.thread, "exception", None) is not args.exc_value:
        threading.__excepthook__(args)
