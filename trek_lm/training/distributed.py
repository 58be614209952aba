"""One run in several processes (ranks), which torch's elastic agent starts, watches and ends.

Lightning's own launcher runs the command line again in each further process: under `-m` that is
the whole sweep. It would also leave the first rank's variables in this process's environment.
"""

import logging
import os
import pkgutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import pad

from trek_lm import cli
from trek_lm.errors import DivergedError, UserError
from trek_lm.signals import Stopped

if TYPE_CHECKING:  # a new rank must not import Lightning before `_rank` runs; see there
    import pytorch_lightning as pl

_is_rank = False  # whether `launch` started this process

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def processes_to_start(trainer: "pl.Trainer", *, share_folder: bool) -> int:
    """How many processes to start here; 0 if this process is enough, or is already one of them.

    `share_folder`: whether externally started processes would all use the same run folder. Raises
    UserError if they wouldn't, for several devices without DDP, and for several machines if an
    external launcher is missing.
    """
    from pytorch_lightning.strategies import DDPStrategy

    if trainer.world_size == 1 or _is_rank:
        return 0
    if not isinstance(trainer.strategy, DDPStrategy):
        raise UserError(f"trainer.devices={trainer.num_devices}: choose trainer=ddp for several")
    assert trainer.strategy.cluster_environment is not None
    if trainer.strategy.cluster_environment.creates_processes_externally:
        if not share_folder:
            raise UserError("under torchrun or srun set hydra.run.dir=FOLDER, one for all ranks")
        return 0
    if trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: start the same command on each node, "
            "with torchrun or srun"
        )
    return trainer.num_devices


def launch(function: str, config: DictConfig, ranks: int) -> None:
    """Calls `package.module:function` with `config` in `ranks` processes.

    If one fails, all are ended. Raises UserError for a user's mistake in any of them and for a
    rank that died, RuntimeError with the rank's traceback for any other error.
    """
    from hydra.core.hydra_config import HydraConfig
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our error is one line
    agent = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        with _restoring_process():
            # With all threads in each of them, the processes would compete for the cores.
            threads = max(1, torch.get_num_threads() // ranks)
            os.environ.setdefault("OMP_NUM_THREADS", str(threads))
            elastic_launch(agent, _rank)(function, config, HydraConfig.instance().cfg)
    except SignalException as stopped:
        raise Stopped(stopped.sigval) from stopped
    except ChildFailedError as error:
        reported = _as_own_error(error, ranks)
        raise reported from reported.__cause__


def _rank(function: str, config: DictConfig, hydra: DictConfig) -> None:
    """Runs `function` as one rank, with the parent's Hydra job set up again."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import configure_log, setup_globals

    global _is_rank
    _is_rank = True
    os.setpgrp()  # Ctrl-C reaches the parent only, which forwards it once
    setup_globals()
    HydraConfig.instance().cfg = hydra  # type: ignore[assignment]
    if os.environ["RANK"] == "0":
        configure_log(hydra.hydra.job_logging, hydra.hydra.verbose)
    # Imported here because Lightning reads the rank from the environment on import.
    try:
        pkgutil.resolve_name(function)(config)
    except Exception as error:  # the agent receives its class name, not its base classes
        message = cli.user_message(error)
        if message is None or isinstance(error, UserError):
            raise
        raise UserError(message) from error


def _as_own_error(error: Any, ranks: int) -> Exception:
    """The error that ended the ranks, as an exception of this process."""
    # When a rank dies, others fail to reach it, and may be reported before it.
    for rank, failure in error.failures.items():
        if isinstance(failure.message, str) and failure.exitcode != -signal.SIGTERM:
            how = failure.signal_name() if failure.exitcode < 0 else f"exit {failure.exitcode}"
            return UserError(f"rank {rank} of {ranks} died ({how})")
    messages = [f.message for f in error.failures.values() if isinstance(f.message, dict)]
    for message in messages:
        kind, _, text = message["message"].partition(": ")
        for mistake in (UserError, DivergedError):
            if kind == mistake.__name__:
                reported = mistake(text)
                reported.__cause__ = _with_traceback(message)
                return reported
    _, failure = error.get_first_failure()
    return _with_traceback(failure.message)


def _with_traceback(message: Any) -> RuntimeError:
    return RuntimeError(f"in a rank:\n{message['extraInfo']['py_callstack']}")


@contextmanager
def _restoring_process() -> Iterator[None]:
    """Restores signal handlers and environment afterwards, for a sweep's next member."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    environment = dict(os.environ)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)


def mean_over_ranks(gradient: Tensor) -> Tensor:
    """The mean over all ranks of a sparse gradient `(R, V)`; each rank has different rows.

    Replaces torch's sparse all-reduce, which DistributedDataParallel uses: on CPUs (gloo, torch
    2.13) it sometimes ends with a segmentation fault, and on GPUs (NCCL) it doesn't exist.
    """
    own = gradient.coalesce()
    rows, values = own.indices()[0], own.values()  # (N,), (N, V)
    most = int(max(_gathered(torch.tensor([len(rows)], device=rows.device))))
    missing = most - len(rows)
    # Padded to one length with zeros for row 0.
    rows = _gathered(pad(rows, (0, missing)))
    values = _gathered(pad(values, (0, 0, 0, missing))) / torch.distributed.get_world_size()
    return torch.sparse_coo_tensor(rows[None], values, gradient.shape, check_invariants=False)


def _gathered(own: Tensor) -> Tensor:
    """The tensors of all ranks, concatenated; all have the same shape."""
    parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, own.contiguous())
    return torch.cat(parts)
