"""Any ONNX file as a teacher, with any two of its tensors as the feature and the fused plane."""

import hashlib
import logging
import math
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.external_data_helper import load_external_data_for_model, uses_external_data
from torch import Tensor

from irvis.runtime.errors import FileError, ModelError, one_line
from irvis.runtime.files import PathLike, read_bytes
from irvis.runtime.onnx_checks import check_names, refuse_external_data
from irvis.runtime.providers import CPU, CUDA, FATAL
from irvis.runtime.sizes import format_size
from irvis.student.network import check_planes
from irvis.student.teachers.load import INFRARED_PARTS, VISIBLE_PARTS, Device, checked_output, has_part, near
from irvis.student.teachers.network import Output

FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
LEARNT = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)

logger = logging.getLogger("irvis.teachers")


class OnnxTeacher:
    """A Teacher: any ONNX file with two inputs, the infrared and the visible plane, (B, 1, H, W) in [0, 1].

    Runs on CUDA if ``device`` is a CUDA device and ONNX Runtime has that provider, else on the CPU. If the ONNX has a
    fixed batch of n, it gets n pairs at a time, the last of them repeated where fewer are left.

    Args:
        path: the ``.onnx``, with its external data beside it if it has any.
        fused: name of the tensor that is the fused plane, (B, 1, H, W); it need not be an output.
        feature: name of the tensor that is distilled, (B, C, h, w); it need not be an output.
        inputs: names of the infrared and of the visible input. None looks for INFRARED_PARTS and VISIBLE_PARTS
            in the names, and assumes that the infrared comes first if these do not tell.
        device: where the outputs go.

    Raises FileError if the file is missing or unreadable, ModelError if it is not such a model.
    """

    def __init__(
        self,
        path: PathLike,
        fused: str,
        feature: str,
        *,
        inputs: Optional[Tuple[str, str]] = None,
        device: Device = "cpu",
    ) -> None:
        path = Path(path)
        self.name = path.name
        self._device = torch.device(device)
        self._names = [feature, fused]
        data = read_bytes(path, "teacher")
        digest = hashlib.sha256(data)
        model = _parse(path, data, digest)
        self._inputs = _choose_inputs(self.name, model.graph, inputs)
        digest.update("\n".join(("", *self._inputs, *self._names)).encode())
        self.digest = digest.hexdigest()
        self.parameters = sum(math.prod(each.dims) for each in model.graph.initializer if each.data_type in LEARNT)
        _set_outputs(self.name, model.graph, self._names)
        self._session = _open_session(self.name, model, self._device)
        nodes = {node.name: node for node in self._session.get_inputs()}
        self._nodes = [nodes[name] for name in self._inputs]
        for node in self._nodes:
            channels = node.shape[1] if len(node.shape) == 4 else 0
            if node.type not in FLOATS or (isinstance(channels, int) and channels != 1):
                raise ModelError(
                    f"{self.name} must take floats (B, 1, H, W) as {node.name}. Got {node.type} {node.shape}"
                )

    def __call__(self, infrared: Tensor, visible: Tensor) -> Output:
        check_planes(infrared, visible)
        step = self._pairs_at_once(infrared)
        planes = [
            plane.detach().cpu().numpy().astype(FLOATS[node.type])
            for plane, node in zip((infrared, visible), self._nodes)
        ]
        features, fused = [], []
        for start in range(0, len(infrared), step):
            indices = np.arange(start, start + step).clip(max=len(infrared) - 1)
            feeds = {name: plane[indices] for name, plane in zip(self._inputs, planes)}
            try:
                found = self._session.run(self._names, feeds)
            except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
                shape = (step, *infrared.shape[1:])
                raise ModelError(
                    f"ONNX Runtime failed on {self.name} with planes of {shape}: {one_line(error)}"
                ) from error
            feature_part, fused_part = (torch.from_numpy(np.asarray(each, np.float32)) for each in found)
            part = checked_output(self.name, infrared[indices], feature_part, fused_part)
            features.append(part[0])
            fused.append(part[1])
        feature_all, fused_all = (torch.cat(parts)[: len(infrared)].to(self._device) for parts in (features, fused))
        return feature_all, fused_all

    def _pairs_at_once(self, infrared: Tensor) -> int:
        """Return how many pairs run together. Raises ModelError for a size other than the fixed one."""
        step = len(infrared)
        for node in self._nodes:
            fixed, _, height, width = node.shape
            for wanted, found in ((height, infrared.shape[2]), (width, infrared.shape[3])):
                if isinstance(wanted, int) and wanted != found:
                    size = "x".join(str(side) if isinstance(side, int) else "any" for side in (height, width))
                    raise ModelError(
                        f"{self.name} takes only planes of {size} (height x width) as {node.name}. "
                        f"Got {format_size(infrared.shape[2:])}; export it for that size, or for any"
                    )
            if isinstance(fixed, int):
                if fixed == 0:  # some exporters' word for any, but not ONNX Runtime's
                    raise ModelError(f"{self.name} takes batches of 0 pairs; export it for any batch")
                step = fixed
        return step


def _parse(path: Path, data: bytes, digest: Any) -> Any:
    """Return the model with its external data, which is added to the digest. Raises FileError."""
    try:
        model = onnx.load_model_from_string(data)
        graph = model.graph
        check_names(graph)
        external = [each for each in graph.initializer if uses_external_data(each)]
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # from protobuf, the checker or the system
        raise FileError(f"not a readable ONNX file: {path} ({one_line(error, 200)})") from error
    if not graph.node:
        raise FileError(f"not a readable ONNX file: {path} (no graph in it)")
    for tensor in external:
        digest.update(tensor.raw_data)
    return model


def _choose_inputs(name: str, graph: Any, wanted: Optional[Tuple[str, str]]) -> Tuple[str, str]:
    """Return the names of the infrared and the visible input. Raises ModelError."""
    constants = {each.name for each in graph.initializer}  # old files list these among the inputs
    inputs = [each.name for each in graph.input if each.name not in constants]
    if len(inputs) != 2:
        raise ModelError(f"{name} must have two inputs, infrared and visible. Got {', '.join(inputs) or 'none'}")
    if wanted is not None:
        if sorted(wanted) != sorted(inputs):
            raise ModelError(f"{name} has the inputs {' and '.join(inputs)}. Got {' and '.join(wanted)}")
        return wanted
    first, second = inputs

    def likely(infrared: str, visible: str) -> int:
        return has_part(infrared, INFRARED_PARTS) + has_part(visible, VISIBLE_PARTS)

    return (second, first) if likely(second, first) > likely(first, second) else (first, second)


def _set_outputs(name: str, graph: Any, tensors: Sequence[str]) -> None:
    """Make these tensors, and no others, the outputs of the graph. Raises ModelError if it lacks one."""
    outputs = [each.name for each in graph.output]
    known = [output for node in graph.node for output in node.output if output]
    for tensor in tensors:
        if tensor not in known:
            raise ModelError(
                f"{name} has no tensor {tensor}. Near: {near(tensor, known)}; its outputs: {', '.join(outputs)}"
            )
    del graph.output[:]
    # Names are enough: ONNX Runtime infers the types, even where onnx's own inference lacks an operator.
    graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in dict.fromkeys(tensors))


def _open_session(name: str, model: Any, device: torch.device) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL  # errors are raised as well, and reported once is enough
    options.intra_op_num_threads = torch.get_num_threads()  # a limit on PyTorch's threads is meant for these too
    providers: List[Any] = [CPU]
    if device.type == "cuda" and CUDA in onnxruntime.get_available_providers():
        providers.insert(0, (CUDA, {"device_id": device.index or 0}))
    data = model.SerializeToString()
    refuse_external_data(data, name)  # external data that onnx did not load, such as that of functions
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot load {name}: {one_line(error)}") from error
    logger.info("%s: ONNX Runtime %s, %s", name, onnxruntime.__version__, session.get_providers()[0])
    return session
