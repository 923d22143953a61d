"""The build itself, in the thread that owns the GPU: network, precisions, configuration, serialised engine."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from irvis.export.build_options import MIB, BuildOptions
from irvis.export.calibration import Calibration, calibration_key, read_ranges, write_ranges
from irvis.export.pins import hold_all_but_int8, hold_large_to, pin_to_fp32
from irvis.export.trt_config import (
    attach_timing_cache,
    keep_timing_cache,
    set_tactic_sources,
    set_workspace,
    tactic_sources,
)
from irvis.export.trt_network import Network, make_network
from irvis.export.trt_versions import (
    allow,
    forbid_tf32,
    keep_layer_details,
    set_constraints,
    takes_constraints,
)
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.gpu import Gpu
from irvis.runtime.pairs import Pair
from irvis.runtime.tensorrt_messages import TensorRTErrors, tensorrt_logger

Progress = Callable[[str], None]


class CannotBuild(ModelError):
    """TensorRT accepted the network but could not build an engine from it."""


@dataclass(frozen=True)
class Source:
    """What to build from: the ONNX, and the pairs that INT8 is calibrated on."""

    model: bytes
    sha256: str
    name: str  # of the ONNX, for errors
    calibration_pairs: Sequence[Pair]
    calibration_cache: Path


@dataclass
class Build:
    """A built engine and what its sidecar says about it."""

    engine: bytes
    precision: str
    size: Tuple[int, int]
    gpu_name: str
    compute_capability: str
    options: Dict[str, Any]
    notes: List[str]  # worth reporting, including warnings


def build_on_gpu(trt: Any, source: Source, options: BuildOptions, progress: Progress) -> Build:
    """Build an engine; ``progress`` is called with the stage of a calibration. Raises FileError and ModelError."""
    gpu = Gpu()
    try:
        return _Builder(trt, gpu, source, options, progress).build()
    finally:
        gpu.release()


@dataclass
class _Builder:
    trt: Any
    gpu: Gpu
    source: Source
    options: BuildOptions
    progress: Progress
    notes: List[str] = field(default_factory=list)

    def build(self) -> Build:
        trt, options, logger = self.trt, self.options, tensorrt_logger()
        with TensorRTErrors() as errors:
            try:
                builder = trt.Builder(logger)
            except Exception as error:  # pybind11 raises TypeError for the null pointer that TensorRT returned
                raise ModelError(f"TensorRT {trt.__version__} does not start: {errors}") from error
            network = make_network(
                trt, builder, logger, errors, self.source.model, self.source.name, options.size, bool(options.frames)
            )
        config = builder.create_builder_config()
        forbid_tf32(trt, config)
        precision = self._allow_precision(builder, config)
        set_workspace(trt, config, self.gpu, options.workspace_mib)
        set_tactic_sources(trt, config, options.tactic_sources)
        if options.timing_cache is not None:
            # Bound to a name: TensorRT keeps no reference to it, and it must outlive the build.
            _timing_cache = attach_timing_cache(config, options.timing_cache, self.notes)
        details = options.profile is not None or precision == "int8"  # they tell which layers run in INT8
        if details:
            keep_layer_details(trt, config)
        pinned, held = self._set_precisions(builder, config, network, precision)
        constraints = ("obey", "prefer") if pinned or held else ()
        if precision == "int8":
            engine, how = self._calibrate_and_serialise(builder, network.definition, config, network.size, constraints)
        else:
            engine, how = self._serialise(builder, network.definition, config, constraints)
        if options.timing_cache is not None:
            keep_timing_cache(config, options.timing_cache, self.notes)
        return Build(
            engine=engine,
            precision=precision,
            size=network.size,
            gpu_name=self.gpu.name,
            compute_capability=self.gpu.compute_capability,
            options={
                "arguments": options.arguments(),
                "workspace_mib": config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) // MIB,
                "tactic_sources": tactic_sources(trt, config),
                "timing_cache": options.timing_cache is not None,
                "fp32_pins": pinned,
                "held_layers": held,
                "precision_constraints": how,
                "calibration_pairs": len(self.source.calibration_pairs) if precision == "int8" else None,
                "layer_details": details,
            },
            notes=self.notes,
        )

    def _allow_precision(self, builder: Any, config: Any) -> str:
        """Allow the requested precision, or else the next that is available; return its name."""
        for precision in {"int8": ("int8", "fp16"), "fp16": ("fp16",), "fp32": ()}[self.options.precision]:
            reason = allow(self.trt, builder, config, precision)
            if reason is None:
                return precision
            self.notes.append(f"warning: the engine is not {precision.upper()}: {reason}")
        return "fp32"

    def _set_precisions(self, builder: Any, config: Any, network: Network, precision: str) -> Tuple[int, int]:
        """Set layers' precisions as ``irvis.export.pins`` says; return how many to FP32, and how many to another."""
        trt, definition, size = self.trt, network.definition, network.size
        if precision == "fp32" or not takes_constraints(trt):
            return 0, 0
        pinned = pin_to_fp32(trt, definition, size, network.parsed, self.options.pins)
        if precision == "fp16":
            return len(pinned), hold_large_to(trt, definition, trt.DataType.HALF, size, pinned)
        other = trt.DataType.HALF if allow(trt, builder, config, "fp16") is None else trt.DataType.FLOAT
        return len(pinned), hold_all_but_int8(trt, definition, other, size, pinned)

    def _serialise(
        self,
        builder: Any,
        network: Any,
        config: Any,
        constraints: Sequence[str],
        check: Callable[[], None] = lambda: None,
    ) -> Tuple[bytes, Optional[str]]:
        """Return the serialised engine and the first of ``constraints`` that works, None if there are none.

        ``check`` raises an error that occurred in a callback. Raises CannotBuild if TensorRT cannot build, and
        ModelError if it lacks a library.
        """
        for how in constraints or (None,):
            if how is not None:
                set_constraints(self.trt, config, how)
            with TensorRTErrors() as errors:
                engine = builder.build_serialized_network(network, config)
            check()
            if engine is not None:
                return bytes(engine), how
            self._check_libraries(str(errors))
            if how == "obey":
                self.notes.append(
                    f"warning: TensorRT cannot hold every layer to its precision ({errors}); "
                    "built again with the precisions as preferences, which it may ignore"
                )
        raise CannotBuild(
            f"TensorRT {self.trt.__version__} cannot build {self.source.name}: {errors}; --verbose shows its full log"
        )

    def _check_libraries(self, said: str) -> None:
        """Raise ModelError if TensorRT could not load a library that it takes kernels from: no other way would help."""
        if re.search("cublas|cudnn", said, re.IGNORECASE) and "load" in said:
            names = [f"-{name}" for name in self.trt.TacticSource.__members__ if name.startswith(("CUBLAS", "CUDNN"))]
            raise ModelError(
                f"TensorRT {self.trt.__version__} lacks a library ({said}): install it, or build without, with "
                f"`build_engine.py {self.source.name} --tactic-sources={','.join(names)}`"
            )

    def _calibrate_and_serialise(
        self, builder: Any, network: Any, config: Any, size: Tuple[int, int], constraints: Sequence[str]
    ) -> Tuple[bytes, Optional[str]]:
        """Calibrate, or reuse the ranges of an earlier calibration, and return what ``_serialise`` does."""
        pairs, path, frames = self.source.calibration_pairs, self.source.calibration_cache, bool(self.options.frames)
        key = calibration_key(self.source.sha256, self.trt.__version__, size, frames, pairs)
        kept = None
        if path.exists():
            kept = read_ranges(path, key)
            self.notes.append(
                f"calibrated with the ranges of {path}, from the same pairs"
                if kept is not None
                else f"calibrated anew: {path} is from another ONNX, TensorRT, size or pairs"
            )
        calibration = Calibration(self.trt, self.gpu, pairs, size, frames, kept, self.progress)
        config.int8_calibrator = calibration.calibrator
        try:
            built = self._serialise(builder, network, config, constraints, calibration.check)
        finally:
            calibration.close()
        if calibration.ranges is not None and calibration.ranges != kept:
            try:
                write_ranges(path, key, calibration.ranges)
            except FileError as error:  # the engine has been built all the same
                self.notes.append(f"warning: {error}")
        return built
