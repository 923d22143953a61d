"""How to build an engine, as a program or the command line asks for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

MIB = 1 << 20


@dataclass(frozen=True)
class BuildOptions:
    """How to build. None leaves the choice to the ONNX, the memory or TensorRT."""

    precision: str = "fp16"  # or "fp32", or "int8", which needs ``calibrate``
    size: Optional[Tuple[int, int]] = None  # (H, W); None: the ONNX's own, or 480x640 if that is dynamic
    workspace_mib: Optional[int] = None  # None: half of the free memory
    timing_cache: Optional[Path] = None
    tactic_sources: Tuple[str, ...] = ()  # names, either all with + or -, or all without
    # Uint8 frames in and out; False: float32 planes in [0, 1]; None: frames if this TensorRT can build them.
    frames: Optional[bool] = None
    pins: bool = True  # keep FP32 where FP16 would lose too much; see irvis.export.pins
    calibrate: Optional[Path] = None  # folder of registered pairs
    calibration_cache: Optional[Path] = None  # None: beside the engine
    pairs: Optional[Path] = None  # folder of registered pairs to measure the engine on; None: generated ones
    force: bool = False  # keep an engine that is too far from its ONNX
    profile: Optional[Path] = None  # JSON of the layers' times to write, with a plot beside it

    def arguments(self) -> List[str]:
        """Return the command-line words that repeat the build elsewhere, without the ONNX and the size."""
        words = [f"--{self.precision}"]
        words += ["--planes"] if self.frames is False else []
        words += [] if self.pins else ["--no-pins"]
        for name, value in (
            ("--workspace", self.workspace_mib),
            ("--calibrate", self.calibrate),
            ("--pairs", self.pairs),
        ):
            words += [] if value is None else [name, str(value)]
        words += [f"--tactic-sources={','.join(self.tactic_sources)}"] if self.tactic_sources else []
        return words + (["--force"] if self.force else [])
