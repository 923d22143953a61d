"""A training step as one CUDA graph: recorded once, then launched whole, so that the GPU never waits for the host."""

import gc
import logging
from typing import Callable, Optional

import torch

from irvis.runtime.errors import one_line

# Plain steps before the recording, in which libraries choose their kernels and the optimiser creates its state.
WARM_UP = 3

logger = logging.getLogger("irvis.train")


class StepGraph:
    """Runs ``step`` on its own stream, from the fourth call on by replaying one CUDA graph of it.

    ``step`` must read nothing on the host, and take its inputs from and leave its outputs in the same tensors on
    ``device``. Nothing here waits for the GPU; call ``wait`` before reading the tensors. Several instances can run side
    by side. If the step cannot be recorded, the log says why, and it is called each time.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self._step = step
        self._stream = torch.cuda.Stream(device)
        self._graph: Optional[torch.cuda.CUDAGraph] = None
        self._until_recording = WARM_UP

    @property
    def recorded(self) -> bool:
        """Whether the next call replays the graph."""
        return self._graph is not None

    def __call__(self) -> None:
        """Queue one step on the GPU, after the work already queued on the current stream."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            if self._until_recording == 0:
                self._record()
            self._until_recording -= 1
            if self._graph is None:
                self._step()
            else:
                self._graph.replay()
        if self._graph is None:
            current.wait_stream(self._stream)  # a plain step may create tensors that others share, such as constants

    def wait(self) -> None:
        """Block until all steps are done."""
        self._stream.synchronize()

    def _record(self) -> None:
        gc.collect()  # a graph freed during the recording would break it
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._step()
            self._graph = graph
        except RuntimeError as error:
            logger.warning("no CUDA graph of the training step, so it runs call by call: %s", one_line(error))
