"""What this process should do on this machine: precision, randomness, quiet libraries."""

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

NO_LIBRARY = "it could not be built; it takes a C compiler, cc or what CC names"


def choose_precision(wanted: object, accelerator: str) -> object:
    """Lightning's precision for `trainer.precision=auto`; any other value stays as it is.

    bf16 mixed where the hardware multiplies it fast, else fp32.
    """
    if wanted != "auto":
        return wanted
    if accelerator in ("cuda", "gpu", "auto") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # AVX-512 without its bf16 extension would emulate: slower than fp32.
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


def choose_engine(wanted: str, cell: str, device: torch.device, precision: str) -> str:
    """The cell's fastest engine for `model.engine=auto`, else `wanted`; told where it is another.

    Where a native one can't serve it is torch's. Raises UserError for a native engine that can't be
    built, and for bfloat16 where torch's LSTM has none.
    """
    engine, why = "torch" if wanted == "auto" else wanted, ""
    serves = device.type == "cpu" and precision in ("bf16-mixed", "32-true")
    # oneDNN's fused LSTM multiplies bf16 by AMX, and ours doesn't.
    slower = (cell, precision) == ("lstm", "bf16-mixed") and torch.cpu._is_amx_tile_supported()
    faster = "native" in CELLS.get(cell, ()) and torch.cpu._is_avx2_supported() and not slower
    if wanted == "native" and not serves:
        engine, why = "torch", "; native is for a CPU in bf16-mixed or 32-true"
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
            "trainer.precision=bf16-mixed: PyTorch's LSTM can't on this processor; choose 32-true,"
            " or model.engine=native, which takes a C compiler"
        )
    if engine != wanted:
        log.info("engine: %s on %s, %s%s", engine, device.type, precision, why)
    return engine


def torch_has_bf16_lstm() -> bool:
    """Whether `torch.nn.LSTM` works under autocast on the CPU; without AVX-512 oneDNN's fails."""
    mkldnn = torch.backends.mkldnn
    return not mkldnn.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@settings()
class Seeded:
    """What makes a run the same again."""

    seed: Seed


def seed_everything(seed: Any) -> None:
    """Seeds every generator in use; raises UserError for a seed that isn't one."""
    import pytorch_lightning as pl

    pl.seed_everything(Seeded(seed=seed).seed, verbose=False)


def random_state() -> dict[str, Any]:
    """The state of every generator in use, as tensors, numbers and lists of them."""
    kind, key, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        # This process's device alone: there may be fewer when the run is resumed.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
        "python": random.getstate(),
        "numpy": [kind, np.asarray(key).tolist(), *rest],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Sets what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state(state["cuda"][0])
    random.setstate(state["python"])
    np.random.set_state(tuple(state["numpy"]))


def quiet() -> None:
    """Silences what libraries say on every run, twice, or that doesn't apply to this project."""
    logging.raiseExceptions = False  # a log that can't be written, on a full disk, is no error
    threading.excepthook = _report_unless_kept
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",  # our loader has nothing for workers to do
        ".*exists and is not empty.*",  # a run folder has its log already
        ".*isinstance.treespec.*",  # Lightning calls what torch deprecates
        ".*log_every_n_steps.*",  # fewer batches than that in an epoch
        ".*callbacks used to create the checkpoint.*",  # a budget's, where steps are given instead
        ".*could not find the monitored key.*",  # validation turned off
        ".*across ranks is zero.*",  # no validation part
        ".*Sparse invariant checks.*",  # torch's AdaGrad makes a tensor from another's indices
        ".*sync_dist=True.*",  # torchmetrics has summed over ranks before the log
    ):
        warnings.filterwarnings("ignore", message=message)


def _report_unless_kept(args: threading.ExceptHookArgs) -> None:
    # TensorBoard's writing thread keeps its exception, to raise it to whoever writes next.
    if getattr(args.thread, "exception", None) is not args.exc_value:
        threading.__excepthook__(args)
