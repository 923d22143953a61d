"""Whether TensorRT 8.5, the newest for a Jetson AGX Xavier, can parse an ONNX; if not, which node it refuses.

Sources: ``docs/operators.md`` and the importers of onnx-tensorrt, branch 8.5-GA.
"""

from typing import Iterator, List

import onnx

from irvis.export.fixed_shapes import attribute_of

NEWEST_OPSET = 17
NEWEST_IR = 8

OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip Concat
    Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu
    Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool
    GlobalMaxPool Greater GreaterOrEqual GridSample GRU HardSwish HardSigmoid Identity If ImageScaler
    InstanceNormalization IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization LpPool MatMul
    Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or Pad
    ParametricSoftplus Pow PRelu QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize ReverseSequence RNN RoiAlign Round ScaledTanh Scan Scatter ScatterElements
    ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt
    Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
    """.split()
)


def find_obstacles(model: onnx.ModelProto) -> List[str]:
    """Return a line for each thing that TensorRT 8.5 would refuse or silently compute differently; [] for none."""
    obstacles = [
        f"opset {opset.version} of {opset.domain or 'ai.onnx'}: the parser knows {NEWEST_OPSET} at most"
        for opset in model.opset_import
        if opset.domain in ("", "ai.onnx") and opset.version > NEWEST_OPSET
    ]
    if model.ir_version > NEWEST_IR:
        obstacles.append(f"IR version {model.ir_version}: the parser knows {NEWEST_IR} at most")
    for node in _nodes(model.graph):
        reason = _obstacle(node)
        if reason:
            obstacles.append(f"node {node.name or node.output[0]} ({node.op_type}): {reason}")
    return obstacles


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Iterate over all nodes, including those inside If, Loop and Scan."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _obstacle(node: onnx.NodeProto) -> str:
    if node.domain not in ("", "ai.onnx"):
        return f"its domain {node.domain} is unknown to the parser"
    if node.op_type not in OPERATORS:
        return "the parser has no importer for it"
    if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum" and len(node.input) > 1:
        return "its axes are an input, which the parser ignores, reducing over everything; export with opset 13"
    if node.op_type == "Einsum" and b"..." in attribute_of(node, "equation", b""):
        return f"its equation {attribute_of(node, 'equation', b'').decode()} has an ellipsis"
    return ""
