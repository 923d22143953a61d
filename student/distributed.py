"""One run on several GPUs or machines, started by ``torchrun``; without it, the only process is rank 0 of 1."""

import logging
import os
import time
import warnings
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import torch
import torch.distributed as dist

from irvis.runtime.errors import IrvisError, one_line

HOW = "start several with: torchrun --nproc-per-node N -m irvis.runtime.cli train ..."

MEETING = timedelta(minutes=10)  # within which all processes must have started
SETTLING_S = 0.5  # before the processes part
WORK = timedelta(days=2)  # for which the others wait while the first runs the teachers, which can take hours


class Processes(NamedTuple):
    """One of the processes of a run."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over the processes."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world
        return values

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is true in any process; all processes get the same answer."""
        if self.world == 1:
            return flag
        said = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(said)
        return bool(said.item())

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wait at the end of the block for all processes; raise an expected error of one in all.

        Otherwise the others would wait for days for a process that has ended. Other methods may not be called inside.
        """
        mine: Optional[Exception] = None
        try:
            yield
        except (IrvisError, OSError) as error:
            if self.world == 1:
                raise
            mine = error
        if self.world > 1:
            errors: List[Optional[Exception]] = [None] * self.world
            dist.all_gather_object(errors, mine)
            for each in errors:
                if each is not None:
                    raise each

    def first(self, call: Callable[[], Any]) -> Any:
        """Return, in every process, what ``call`` returns in the first one, the only one that calls it.

        Its files may be on another machine. Raises, in every process, what ``together`` does.
        """
        returned: List[Any] = [None]
        with self.together():
            if self.is_first:
                returned[0] = call()
        if self.world > 1:
            dist.broadcast_object_list(returned)
        return returned[0]


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the run that ``torchrun`` describes in the environment; ``device``: auto, cpu or cuda. Raises IrvisError."""
    rank, world, local = _numbers()
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise IrvisError("--device cuda: PyTorch sees no CUDA device; use --device cpu")
    cuda = available and device != "cpu"
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        found = torch.cuda.device_count()
        if local >= found:
            raise IrvisError(
                f"LOCAL_RANK {local} needs a GPU of its own, and PyTorch sees {found}; {HOW}, N at most that"
            )
        torch.cuda.set_device(place)
    if world > 1:
        try:
            store, _, _ = next(dist.rendezvous("env://", timeout=MEETING))
            store.set_timeout(WORK)
            backend = "nccl" if cuda else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=WORK)
        except (ValueError, RuntimeError) as error:
            raise IrvisError(
                f"cannot join the {world} processes of WORLD_SIZE: {one_line(error, 150)}; {HOW}"
            ) from error
    if rank:
        logging.getLogger("irvis").setLevel(logging.ERROR)  # the first process warns for all
    try:
        with warnings.catch_warnings():
            # In channels-last, gradients of 1x1 convolutions have other strides than DDP's buckets: copied, not wrong.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield Processes(rank, world, place)
    finally:
        if world > 1:
            # Its threads need Python's lock to release the last tensors, and PyTorch 2.4 holds that while it waits for
            # them: a run that an error ended often hung.
            time.sleep(SETTLING_S)
            dist.destroy_process_group()


def _numbers() -> Tuple[int, int, int]:
    """Return RANK, WORLD_SIZE and LOCAL_RANK from the environment. Raises IrvisError if they make no sense."""
    numbers = []
    for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        text = os.environ.get(name, default)
        if not text.isdecimal():
            raise IrvisError(f"{name} in the environment must be a number. Got {text!r}; unset it, or {HOW}")
        numbers.append(int(text))
    rank, world, local = numbers
    if rank >= world:
        raise IrvisError(f"RANK must be below WORLD_SIZE. Got {rank} and {world}; unset both, or {HOW}")
    return rank, world, local
