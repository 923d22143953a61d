"""Builds a TensorRT engine from an ONNX, measures it, and writes it with its sidecar. Needs tensorrt and pycuda."""

import functools
import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

from irvis.export import acceptance, calibration
from irvis.export.build_options import BuildOptions
from irvis.export.layer_profile import count_int8, describe_profile, parse_inspector, write_profile
from irvis.export.onnx_wire import is_onnx
from irvis.export.sample_frames import Frames, find_pairs, read_frames
from irvis.export.spinner import under_clock
from irvis.export.trt_build import Build, CannotBuild, Source, build_on_gpu
from irvis.export.trt_network import tensor_specs
from irvis.export.trt_profile import inspect_layers, profile_layers
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.files import ENGINE_SUFFIXES, check_outputs, read_bytes, replacing
from irvis.runtime.gpu import import_pycuda
from irvis.runtime.onnx_checks import refuse_external_data
from irvis.runtime.pairs import Pair, files_of, pairs_of
from irvis.runtime.samples import SCENES, make_scene
from irvis.runtime.shipped import name_onnx
from irvis.runtime.sidecar import Sidecar, encode_sidecar, sidecar_path, write_sidecar
from irvis.runtime.tensorrt_messages import import_tensorrt
from irvis.runtime.version import irvis_version

Say = Callable[[str], None]
Result = TypeVar("Result")


def build_engine(onnx: Path, engine: Path, options: BuildOptions, say: Say = print, plain: bool = False) -> Sidecar:
    """Build ``engine`` and its sidecar from ``onnx``; return the sidecar. Both files are written, or neither.

    ``say`` is called with each line worth reporting; the elapsed time goes to stderr, as lines if ``plain``. Raises
    FileError and ModelError, the latter also if the engine is further from the ONNX than its precision allows.
    KeyboardInterrupt leaves no file behind, but TensorRT cannot be stopped: end the process.
    """
    model = read_onnx(onnx)
    cache = options.calibration_cache or engine.with_name(engine.name + ".calibration")
    _check_outputs(onnx, engine, cache, options)
    to_calibrate, to_measure = _find_pairs(options)
    trt = import_tensorrt()
    import_pycuda()
    label = f"building {engine.name} with TensorRT {trt.__version__}, {options.precision.upper()}"
    started = time.monotonic()
    source = Source(model, hashlib.sha256(model).hexdigest(), str(onnx), to_calibrate, cache)
    build, frames = _build(trt, source, options, label, plain, say)
    for note in build.notes:
        say(note)
    sidecar = _describe(build, source, name_onnx(onnx), frames, trt.__version__, time.monotonic() - started)
    # Both are complete before either is put in place; the sidecar comes last, and an older one fails the hash check.
    with replacing(sidecar_path(engine)) as new_sidecar, replacing(engine) as new_engine:
        new_engine.write_bytes(build.engine)
        try:
            write_sidecar(new_engine, sidecar)
            measured = _measure(new_engine, onnx, sidecar, to_measure, say, plain)
            accepted = acceptance.judge(measured, sidecar.precision, options.force)
            sidecar = replace(sidecar, measured_error=measured, accepted=accepted)
            if sidecar.precision == "int8":
                sidecar = _tell_of_int8(new_engine, sidecar, say)
            if options.profile is not None:
                _profile(new_engine, engine.name, sidecar, options.profile, say, plain)
        finally:
            sidecar_path(new_engine).unlink(missing_ok=True)
        new_sidecar.write_bytes(encode_sidecar(sidecar))
    return sidecar


def _build(trt: Any, source: Source, options: BuildOptions, label: str, plain: bool, say: Say) -> Tuple[Build, bool]:
    """Return the built engine and whether it takes frames; if that was left open and frames fail, it takes planes.

    A TensorRT version may fail on the frames' layers with an internal assertion, as 8.5.2 did when the size was fixed
    after parsing. An engine of planes is as good, except for the work left to the host.
    """

    def built(frames: bool) -> Build:
        chosen = replace(options, frames=frames)
        return _under_clock(lambda progress: build_on_gpu(trt, source, chosen, progress), label, plain)

    if options.frames is False:
        return built(False), False
    try:
        return built(True), True
    except CannotBuild as error:
        if options.frames:
            raise
        say(f"warning: no engine of frames: {error}. Building an engine of planes instead")
        return built(False), False


def read_onnx(path: Path) -> bytes:
    """Return the content of an ONNX.

    Raises FileError, and ModelError if it is another kind of file, cut off, or has external data.
    """
    model = read_bytes(path, "ONNX")
    if not is_onnx(model):
        raise ModelError(f"not an ONNX, or a corrupt one: {path} ({len(model)} bytes)")
    refuse_external_data(model, path)
    return model


def _check_outputs(onnx: Path, engine: Path, cache: Path, options: BuildOptions) -> None:
    """Raise FileError if an output cannot be written or would overwrite an input: before minutes of work, not after."""
    pairs = [pair for folder in (options.calibrate, options.pairs) if folder is not None for pair in pairs_of(folder)]
    outputs = [engine, sidecar_path(engine), options.timing_cache, options.profile]
    check_outputs([*outputs, cache if options.precision == "int8" else None], [onnx, *files_of(pairs)])
    if engine.suffix not in ENGINE_SUFFIXES:
        raise FileError(f"an engine's name must end with {' or '.join(ENGINE_SUFFIXES)}. Got {engine}")


def _find_pairs(options: BuildOptions) -> Tuple[List[Pair], List[Pair]]:
    """Return the pairs to calibrate on and those to measure on; the latter are [] to use generated ones."""
    to_calibrate: List[Pair] = []
    if options.precision == "int8":
        if options.calibrate is None:
            raise ModelError("INT8 needs registered pairs to find its ranges on: give --calibrate FOLDER")
        to_calibrate = find_pairs(options.calibrate, calibration.PAIRS_AT_MOST)
    to_measure = find_pairs(options.pairs, acceptance.PAIRS_AT_MOST) if options.pairs is not None else []
    return to_calibrate, to_measure


def _describe(build: Build, source: Source, name: str, frames: bool, version: str, seconds: float) -> Sidecar:
    inputs, outputs = tensor_specs(build.size, frames)
    return Sidecar(
        engine_sha256=hashlib.sha256(build.engine).hexdigest(),
        onnx_sha256=source.sha256,
        onnx_name=name,
        tensorrt_version=version,
        gpu_name=build.gpu_name,
        compute_capability=build.compute_capability,
        precision=build.precision,
        inputs=inputs,
        outputs=outputs,
        size=build.size,
        build_options=build.options,
        build_seconds=round(seconds, 1),
        measured_error=None,
        irvis_version=irvis_version(),
    )


def _measure(
    engine: Path, onnx: Path, sidecar: Sidecar, pairs: List[Pair], say: Say, plain: bool
) -> Optional[Dict[str, Any]]:
    """Return the sidecar's ``measured_error``, on ``pairs`` or on the generated scenes."""
    scenes: List[Callable[[], Frames]] = [functools.partial(read_frames, pair, sidecar.size) for pair in pairs] or [
        functools.partial(make_scene, name, *sidecar.size) for name in SCENES
    ]
    notes: List[str] = []
    measured = _under_clock(
        lambda progress: acceptance.measure_error(
            engine, onnx, sidecar.takes_frames, scenes, notes.append, lambda text: progress(f"pair {text}")
        ),
        f"measuring it against the ONNX in FP32 on {len(scenes)} {'' if pairs else 'generated '}pairs",
        plain,
    )
    for note in notes:
        say(note)
    return measured


def _tell_of_int8(engine: Path, sidecar: Sidecar, say: Say) -> Sidecar:
    """Report how many layers run in INT8, which TensorRT may or may not use, and record it in the sidecar."""
    try:
        count: Optional[int] = count_int8(parse_inspector(inspect_layers(engine)))
    except (FileError, ModelError) as error:
        count = None
        say(f"warning: the number of layers that run in INT8 is unknown: {error}")
    if count == 0:
        say("warning: no layer runs in INT8: with the conversions that it needs, TensorRT found it no faster here")
    elif count:
        say(f"{count} layers run in INT8")
    return replace(sidecar, build_options={**sidecar.build_options, "int8_layers": count})


def _profile(engine: Path, name: str, sidecar: Sidecar, output: Path, say: Say, plain: bool) -> None:
    """Write the layers' times; an error is only reported, since the engine is worth more."""
    try:
        found = under_clock(lambda: profile_layers(engine), "timing its layers", plain)
        for line in write_profile(describe_profile(found, name, sidecar), output):
            say(line)
    except (FileError, ModelError) as error:
        say(f"warning: no profile of the layers: {error}")


def _under_clock(work: Callable[[Callable[[str], None]], Result], label: str, plain: bool) -> Result:
    """Return the result of ``work``, which gets a function to report its stage, with the time running on stderr."""
    stages = [""]
    return under_clock(lambda: work(stages.append), lambda: f"{label}, {stages[-1]}" if stages[-1] else label, plain)
