"""Settings of a TensorRT builder that need more than a line: memory, tactic sources, timing cache."""

from pathlib import Path
from typing import Any, List, Optional, Tuple

from irvis.export.build_options import MIB
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.files import read_bytes, write_bytes
from irvis.runtime.gpu import Gpu


def set_workspace(trt: Any, config: Any, gpu: Gpu, wanted_mib: Optional[int]) -> None:
    """Limit the memory that layers may use while they run; by default to half of the free memory."""
    if wanted_mib is not None:
        limit = wanted_mib * MIB
    else:
        with gpu.current():
            free, _ = gpu.cuda.mem_get_info()
        limit = int(free) // 2  # TensorRT's default is all of it, which a Jetson shares with the CPU
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)


def set_tactic_sources(trt: Any, config: Any, names: Tuple[str, ...]) -> None:
    """Set the libraries to take kernels from: exactly ``names``, or, with + and -, changes to the default.

    Raises ModelError for a name that this TensorRT does not know, and if it refuses the set.
    """
    if not names:
        return
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


def tactic_sources(trt: Any, config: Any) -> List[str]:
    """Return the names of the libraries that kernels are taken from."""
    mask = config.get_tactic_sources()
    return [name for name, source in trt.TacticSource.__members__.items() if mask >> int(source) & 1]


def attach_timing_cache(config: Any, path: Path, notes: List[str]) -> Any:
    """Load a file's timings, if any, into ``config``; the returned cache must outlive the build."""
    data = read_bytes(path, "timing cache") if path.exists() else b""
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, False):
        notes.append(f"warning: the timing cache is corrupt or of another TensorRT or GPU, and starts anew: {path}")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def keep_timing_cache(config: Any, path: Path, notes: List[str]) -> None:
    """Write the timings; an error is only noted, since the engine is built and worth more than its timings."""
    try:
        write_bytes(path, bytes(config.get_timing_cache().serialize()))
    except FileError as error:
        notes.append(f"warning: {error}")
