"""One run on several GPUs or machines, started by ``torchrun``; without it, the only process is rank 0 of 1."""

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import Iterator, NamedTuple

import torch
import torch.distributed as dist

from irvis.runtime.errors import IrvisError


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

    def wait(self) -> None:
        """Block until all processes have called this."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the run that ``torchrun`` describes in the environment; ``device``: auto, cpu or cuda. Raises IrvisError."""
    rank, world, local = (int(os.environ.get(name, default)) for name, default in
                          (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))  # fmt: skip
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise IrvisError("--device cuda: PyTorch sees no CUDA device; use --device cpu")
    cuda = available and device != "cpu"
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    if world > 1:
        # The others wait here while the first runs the teachers, which can take hours.
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(days=2))
    try:
        yield Processes(rank, world, place)
    finally:
        if world > 1:
            dist.destroy_process_group()
