"""Execution providers of ONNX Runtime: which are used, with what options, and what is reported if one does not load."""

import contextlib
import hashlib
import logging
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from irvis.runtime.errors import FileError, ModelError, one_line
from irvis.runtime.files import user_cache
from irvis.runtime.onnx_checks import refuse_external_data

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
PREFERRED_PROVIDERS = (TENSORRT, CUDA, CPU)
CPU_ONLY = (CPU,)  # the reference that others are compared with
WARNING, FATAL = 2, 4  # log levels of ONNX Runtime; the first is its default

logger = logging.getLogger("irvis.onnxruntime")


def open_session(
    onnxruntime: Any,
    model: Path,
    content: bytes,
    options: Any,
    wanted: Optional[Sequence[str]],
    engine_cache: Optional[Path],
) -> Any:
    """Return an ``InferenceSession`` of a model on the first provider that works.

    Args:
        onnxruntime: the module.
        model: the path of the ``.onnx``, for names and messages.
        content: its bytes. The file is not read again: it could have been replaced after ``content`` was checked.
        options: its ``SessionOptions``.
        wanted: names of providers in order of preference, all of which must load; None tries TensorRT, CUDA and CPU,
            and warns about any that this ONNX Runtime includes but that does not load.
        engine_cache: folder for the engines that the TensorRT provider builds; None: below ``~/.cache``.

    Raises ModelError if no provider works, a wanted one does not, or the model has external data; FileError if the
    cache cannot be written.
    """
    refuse_external_data(content, model)
    names = choose_providers(onnxruntime.get_available_providers(), wanted)
    # The TensorRT provider names its engines after the graph, not its weights, so each ONNX needs a folder of its own.
    folder = engine_folder(model, content, onnxruntime.__version__, engine_cache) if TENSORRT in names else None
    failures: Dict[str, str] = {}
    session: Any = None
    while session is None:
        providers = [(name, provider_options(name, onnxruntime.__version__, folder)) for name in names]
        try:
            with _quiet(onnxruntime, names):
                session = _strict_session(onnxruntime)(content, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class of their own
            if wanted is not None or len(names) == 1:
                raise ModelError(
                    f"ONNX Runtime {onnxruntime.__version__} cannot load {model}: {_reason(error)}"
                ) from error
            failures[names.pop(0)] = _reason(error)
    used = session.get_providers()
    failures.update((name, "its libraries do not load") for name in names if name not in used)
    if failures and wanted is not None:
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} cannot use {_listed(failures)}, and would run {model} on {used[0]}"
        )
    if failures:
        logger.warning("%s runs on %s: ONNX Runtime cannot use %s", model, used[0], _listed(failures))
    if TENSORRT in used and folder is not None and not any(folder.glob("*.engine")):
        logger.warning("%s: the first frames of a size take minutes: TensorRT builds an engine for them", model)
    return session


def choose_providers(available: Sequence[str], wanted: Optional[Sequence[str]]) -> List[str]:
    """Return the names to request. Raises ModelError if a wanted one is not in this ONNX Runtime."""
    if wanted is None:
        return [name for name in PREFERRED_PROVIDERS if name in available]
    missing = [name for name in wanted if name not in available]
    if missing or not wanted:
        raise ModelError(f"ONNX Runtime has no provider {missing or '(none requested)'}. Found {list(available)}")
    return list(wanted)


def provider_options(name: str, version: str, folder: Optional[Path]) -> Dict[str, str]:
    """Return a provider's options, as ONNX Runtime 1.15 and later accept them: an unknown one fails.

    Args:
        name: of the provider.
        version: of ONNX Runtime, ``"1.18.1"``.
        folder: where TensorRT keeps its engines; None: nowhere.

    TensorRT's booleans must be ``True`` or ``False``, CUDA's may be ``0`` or ``1``
    (https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html, CUDA-ExecutionProvider.html).
    """
    if name == CUDA:
        return {"cudnn_conv_algo_search": "EXHAUSTIVE", "cudnn_conv_use_max_workspace": "1"}
    if name != TENSORRT:
        return {}
    options = {"trt_fp16_enable": "True"}
    if folder is not None:
        options["trt_engine_cache_enable"] = options["trt_timing_cache_enable"] = "True"
        options["trt_engine_cache_path"] = str(folder)
        # From 1.17 on, the timing cache has a path of its own, by default the current folder; before, the engines'.
        if tuple(int(part) for part in version.split(".")[:2]) >= (1, 17):
            options["trt_timing_cache_path"] = str(folder.parent)
    return options


def engine_folder(model: Path, content: bytes, version: str, cache: Optional[Path]) -> Optional[Path]:
    """Create and return the folder of this model's engines; None if the default one cannot be created.

    Raises FileError if ``cache`` is given and cannot be written.
    """
    try:
        parent = cache or user_cache("onnxruntime")
        folder = parent / f"{model.stem[:60]}-{hashlib.sha256(content).hexdigest()[:12]}-{version}"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if cache is not None:
            raise FileError(f"cannot write the engine cache {cache}: {error.strerror}") from error
        logger.warning("TensorRT's engine will be built at every start, as it cannot be kept: %s", error)
        return None
    return folder


def _strict_session(onnxruntime: Any) -> Any:
    """Return a session class that raises where ONNX Runtime's own would print an error and use another provider.

    The argument ``enable_fallback`` of its own does that only from 1.19 on.
    """

    class StrictSession(onnxruntime.InferenceSession):
        _enable_fallback = property(lambda _: False, lambda *_: None)

    return StrictSession


@contextlib.contextmanager
def _quiet(onnxruntime: Any, names: Sequence[str]) -> Iterator[None]:
    """Keep ONNX Runtime's logs about libraries that do not load off stderr: we report that in one line."""
    if list(names) == [CPU]:
        yield
        return
    onnxruntime.set_default_logger_severity(FATAL)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(WARNING)


def _reason(error: Exception) -> str:
    """Return ONNX Runtime's message without the C++ file, line and function that it begins with."""
    return one_line(re.sub(r"^/\S+:\d+ .*?[)\]] (?=[A-Z]|\[ONNX)", "", str(error), flags=re.DOTALL))


def _listed(failures: Dict[str, str]) -> str:
    return "; ".join(f"{name} ({reason})" for name, reason in failures.items())
