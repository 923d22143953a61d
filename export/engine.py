"""Builds a TensorRT engine from an ONNX, measures it, and writes it with its sidecar. Needs tensorrt and pycuda."""

import contextlib
import hashlib
import importlib.util
import math
import time
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from irvis.export.clock import under_clock
from irvis.export.onnx_wire import is_onnx
from irvis.export.trt_versions import allow_fp16, forbid_tf32, network_flags, parser_errors
from irvis.runtime import backend_tensorrt
from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.files import check_writable, read_bytes, replacing, write_bytes
from irvis.runtime.frames import split_luminance, to_unit
from irvis.runtime.samples import SCENES, make_scene
from irvis.runtime.sidecar import Sidecar, encode_sidecar, sidecar_path, write_sidecar
from irvis.runtime.sizes import DEFAULT_SIZE, format_size

MIB = 1 << 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """How to build. None leaves the choice to the ONNX, the memory or TensorRT."""

    precision: str = "fp16"  # or "fp32"
    size: Optional[Tuple[int, int]] = None  # (H, W); None: the ONNX's own, or 480x640 where that is dynamic
    workspace_mib: Optional[int] = None  # None: half of the memory that is free
    timing_cache: Optional[Path] = None
    tactic_sources: Tuple[str, ...] = ()  # names, all of them with + or -, or none


@dataclass(frozen=True)
class Build:
    """A built engine and what its sidecar says of it."""

    engine: bytes
    precision: str
    size: Tuple[int, int]
    inputs: Dict[str, Dict[str, Any]]
    outputs: Dict[str, Dict[str, Any]]
    options: Dict[str, Any]
    gpu_name: str
    compute_capability: str
    warnings: List[str]


def build_engine(onnx: Path, engine: Path, options: BuildOptions, say: Say = print, plain: bool = False) -> Sidecar:
    """Build ``engine`` and its sidecar from ``onnx``; give the sidecar. Both files are written, or neither.

    ``say`` gets a line for each thing worth telling; the time goes to stderr, as lines if ``plain``. Raises FileError
    and ModelError. KeyboardInterrupt leaves no file behind, but TensorRT cannot be stopped: end the process.
    """
    model = read_onnx(onnx)
    check_writable(engine)
    if options.timing_cache is not None:
        check_writable(options.timing_cache)
    if engine.resolve() == onnx.resolve():
        raise FileError(f"the engine would overwrite its ONNX: {onnx}; give another -o")
    trt = backend_tensorrt.import_tensorrt()
    backend_tensorrt.import_pycuda()
    label = f"building {engine.name} with TensorRT {trt.__version__}, {options.precision.upper()}"
    started = time.monotonic()
    build = under_clock(lambda: _build_on_gpu(trt, model, onnx, options), label, plain)
    for warning in build.warnings:
        say(f"warning: {warning}")
    sidecar = Sidecar(
        engine_sha256=hashlib.sha256(build.engine).hexdigest(),
        onnx_sha256=hashlib.sha256(model).hexdigest(),
        onnx_name=onnx.name,
        tensorrt_version=trt.__version__,
        gpu_name=build.gpu_name,
        compute_capability=build.compute_capability,
        precision=build.precision,
        inputs=build.inputs,
        outputs=build.outputs,
        size=build.size,
        build_options=build.options,
        build_seconds=round(time.monotonic() - started, 1),
        measured_error=None,
        irvis_version=_irvis_version(),
    )
    # Both are whole before either is put in place; the sidecar goes last, and an older one fails by the engine's hash.
    with replacing(sidecar_path(engine)) as new_sidecar, replacing(engine) as new_engine:
        new_engine.write_bytes(build.engine)
        try:
            write_sidecar(new_engine, sidecar)
            sidecar = replace(sidecar, measured_error=measure_error(new_engine, onnx, build.size, say))
        finally:
            sidecar_path(new_engine).unlink(missing_ok=True)
        new_sidecar.write_bytes(encode_sidecar(sidecar))
    return sidecar


def read_onnx(path: Path) -> bytes:
    """Give the content of an ONNX. Raises FileError, and ModelError where it is another kind of file or cut off."""
    model = read_bytes(path, "ONNX")
    if not is_onnx(model):
        raise ModelError(f"not an ONNX, or a corrupt one: {path} ({len(model)} bytes)")
    return model


def measure_error(engine: Path, onnx: Path, size: Tuple[int, int], say: Say) -> Optional[Dict[str, Any]]:
    """Run generated scenes through the engine and the ONNX in FP32; give how far they differ, on planes in [0, 1].

    None where ONNX Runtime is missing or cannot run it. Raises ModelError where the engine fails or gives no numbers.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        say("not measured: onnxruntime is not installed")
        return None
    say(f"measuring it against the ONNX in FP32 on {len(SCENES)} generated pairs")
    pairs = [_sample_planes(name, size) for name in SCENES]
    try:
        with contextlib.closing(OnnxRuntimeBackend(onnx, ("CPUExecutionProvider",))) as reference:
            expected = [reference.run(*pair).astype(np.float64) for pair in pairs]
    except ModelError as error:
        say(f"not measured: {error}")
        return None
    with contextlib.closing(backend_tensorrt.TensorRTBackend(engine)) as backend:
        errors = [np.abs(backend.run(*pair) - plane) for pair, plane in zip(pairs, expected)]
    if not all(np.isfinite(error).all() for error in errors):
        raise ModelError("the engine gives values that are not finite; nothing was written, try --fp32")
    worst_mse = max(float(np.mean(error**2)) for error in errors)
    return {
        "pairs": len(pairs),
        "max_abs": max(float(error.max()) for error in errors),
        # 200 dB stands for no difference at all: JSON has no infinity.
        "worst_psnr_db": round(-10 * math.log10(max(worst_mse, 1e-20)), 2),
    }


def _sample_planes(name: str, size: Tuple[int, int]) -> np.ndarray:
    """Give a generated scene as infrared and luminance, float32 (2, H, W) in [0, 1]."""
    infrared, visible = make_scene(name, *size)
    planes = np.empty((2, *size), np.float32)
    to_unit(infrared, planes[0])
    to_unit(split_luminance(visible).y, planes[1])
    return planes


def _build_on_gpu(trt: Any, model: bytes, onnx: Path, options: BuildOptions) -> Build:
    gpu = backend_tensorrt.Gpu()
    try:
        return _build(trt, gpu, model, onnx, options)
    finally:
        gpu.release()


def _build(trt: Any, gpu: backend_tensorrt.Gpu, model: bytes, onnx: Path, options: BuildOptions) -> Build:
    logger, warnings, precision = backend_tensorrt.tensorrt_logger(), [], options.precision
    with backend_tensorrt.TensorRTErrors() as errors:
        try:
            builder = trt.Builder(logger)
        except Exception as error:  # pybind11 raises TypeError for the null pointer that TensorRT returned
            raise ModelError(f"TensorRT {trt.__version__} does not start: {errors}") from error
        network = builder.create_network(network_flags(trt))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(model, str(onnx)):
            reasons = "; ".join(parser_errors(parser, model)) or str(errors)
            raise ModelError(f"TensorRT {trt.__version__} cannot take {onnx}: {reasons}")
        size = _fix_size(trt, network, onnx, options.size)
        config = builder.create_builder_config()
        forbid_tf32(trt, config)
        if precision == "fp16" and not allow_fp16(trt, builder, config):
            precision = "fp32"
            warnings.append(f"{gpu.name} gains nothing from FP16; the engine is FP32")
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _workspace_bytes(gpu, options.workspace_mib))
        if options.tactic_sources:
            _set_tactic_sources(trt, config, options.tactic_sources)
        if options.timing_cache is not None:
            _cache = _attach_timing_cache(config, options.timing_cache, warnings)  # must outlive the build
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise ModelError(
                f"TensorRT {trt.__version__} cannot build {onnx}: {errors}; --verbose shows all that it says"
            )
        if options.timing_cache is not None:
            try:
                write_bytes(options.timing_cache, bytes(config.get_timing_cache().serialize()))
            except FileError as error:  # the engine is there, and worth more than its timings
                warnings.append(str(error))
    sources = config.get_tactic_sources()
    plane = {"shape": [1, 1, *size], "dtype": "float32"}  # which _fix_size has seen to, and the backend will again
    return Build(
        engine=bytes(engine),
        precision=precision,
        size=size,
        inputs=dict.fromkeys(backend_tensorrt.INPUTS, plane),
        outputs={backend_tensorrt.OUTPUT: plane},
        options={
            "workspace_mib": config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) // MIB,
            "tactic_sources": [
                name for name, source in trt.TacticSource.__members__.items() if sources >> int(source) & 1
            ],
            "timing_cache": options.timing_cache is not None,
        },
        gpu_name=gpu.name,
        compute_capability=gpu.compute_capability,
        warnings=warnings,
    )


def _fix_size(trt: Any, network: Any, onnx: Path, wanted: Optional[Tuple[int, int]]) -> Tuple[int, int]:
    """Give the network inputs of one fixed size, and give that size (H, W). Raises ModelError where they cannot be."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    shapes = [tuple(tensor.shape) for tensor in inputs]
    if (
        sorted(tensor.name for tensor in inputs) != sorted(backend_tensorrt.INPUTS)
        or [tensor.name for tensor in outputs] != [backend_tensorrt.OUTPUT]
        or any(tensor.dtype != trt.DataType.FLOAT for tensor in inputs + outputs)
        or any(len(shape) != 4 or shape[0] not in (-1, 1) or shape[1] != 1 for shape in shapes)
    ):
        found = ", ".join(
            f"{backend_tensorrt.dtype_name(tensor.dtype)} {tensor.name} {tuple(tensor.shape)}"
            for tensor in inputs + outputs
        )
        raise ModelError(
            f"{onnx} must take infrared and visible and give fused, each float32 (1, 1, H, W). Got {found}; "
            "make one with `irvis export`"
        )
    fixed = {shape[2:] for shape in shapes if min(shape) > 0}
    size = wanted or (fixed.pop() if fixed else DEFAULT_SIZE)
    for tensor, shape in zip(inputs, shapes):
        if any(own not in (-1, asked) for own, asked in zip(shape[2:], size)):
            raise ModelError(
                f"{onnx} takes {tensor.name} of {format_size(shape[2:])} alone, not of {format_size(size)}: make one "
                f"with `irvis export CHECKPOINT --size {format_size(size)}`, or give an ONNX of --dynamic size"
            )
        if min(shape) < 0:
            tensor.shape = [1, 1, *size]
    if any(own not in (-1, asked) for own, asked in zip(outputs[0].shape, (1, 1, *size))):  # -1: known once built
        raise ModelError(f"{onnx} gives {tuple(outputs[0].shape)} from frames of {format_size(size)}, not their size")
    return size


def _workspace_bytes(gpu: backend_tensorrt.Gpu, wanted_mib: Optional[int]) -> int:
    if wanted_mib is not None:
        return wanted_mib * MIB
    with gpu.current():
        free, _ = gpu.cuda.mem_get_info()
    return int(free) // 2  # TensorRT's own default is all of it, which on a Jetson is the CPU's memory as well


def _set_tactic_sources(trt: Any, config: Any, names: Tuple[str, ...]) -> None:
    known = trt.TacticSource.__members__
    mask = config.get_tactic_sources() if names[0][0] in "+-" else 0
    for name in names:
        if name.lstrip("+-") not in known:
            raise ModelError(
                f"TensorRT {trt.__version__} has no tactic source {name.lstrip('+-')}; it has {', '.join(known)}"
            )
        bit = 1 << int(known[name.lstrip("+-")])
        mask = mask & ~bit if name[0] == "-" else mask | bit
    if not config.set_tactic_sources(mask):
        raise ModelError(f"TensorRT {trt.__version__} refuses the tactic sources {','.join(names)}")


def _attach_timing_cache(config: Any, path: Path, warnings: List[str]) -> Any:
    data = read_bytes(path, "timing cache") if path.exists() else b""
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, False):
        warnings.append(f"the timing cache is corrupt or of another TensorRT or GPU, and starts anew: {path}")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _irvis_version() -> str:
    try:
        return metadata.version("irvis")
    except metadata.PackageNotFoundError:  # run from a folder on PYTHONPATH
        return "not installed"
