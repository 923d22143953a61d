"""Each way to compute a part against the part itself, on values as large as a student's."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from irvis.benchmarks.gpu_check import probes
from irvis.benchmarks.gpu_check.engines import ENGINES, PROBES, onnx_of
from irvis.export.deploy import DeployAttention, DeployDACB, DeployStudent
from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import ModelError
from irvis.runtime.shipped import find_model
from irvis.student.checkpoint import load_student

SIZE = (36, 40)


@pytest.fixture(scope="module")
def deploy():
    return DeployStudent(load_student(find_model(None, ".safetensors"))).eval()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    assert probes.write_probes(folder, SIZE) == 0
    return folder


@pytest.mark.parametrize("name", PROBES)
def test_every_way_computes_its_part(name, deploy):
    way = probes.WAYS[name]
    exact, other = (probes.probe_of(probes.Way(way.part, kind), deploy).part.double() for kind in (None, way.kind))
    x = torch.randn(1, 32, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.set_default_dtype(torch.float64)  # of the constants that a way makes
    try:
        wanted, found = exact(x), other(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert float((wanted - x).abs().max()) > 0.1  # the part does something
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_each_has_an_engine(written):
    assert tuple(probes.WAYS) == PROBES
    specs = {spec.name: spec for spec in ENGINES}
    assert {specs[name].onnx for name in PROBES} == {path.name for path in written.iterdir()}
    assert all(specs[name].student is None for name in PROBES)


def test_they_are_networks_of_planes(written):
    rng = np.random.default_rng(0)
    for name in PROBES:
        backend = OnnxRuntimeBackend(written / onnx_of(name), ("CPUExecutionProvider",))
        assert backend.size == SIZE
        fused = backend.run(*rng.random((2, *SIZE), dtype=np.float32))
        assert 0 < fused.min() < fused.max() < 1
        backend.close()


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_attention_as_a_convolution_has_computed_weights(written):
    products = operators(written / onnx_of("probe attention")).count("MatMul")
    for name, spared in (("folded", 0), ("grouped", 1)):  # folded, the product is of two small matrices
        path = written / onnx_of(f"probe attention {name}")
        graph = onnx.load(path).graph
        constants = {tensor.name for tensor in graph.initializer}
        computed = [node for node in graph.node if node.op_type == "Conv" and node.input[1] not in constants]
        assert len(computed) == 1
        assert operators(path).count("MatMul") == products - spared


def test_the_other_ways_lack_what_they_replace(written):
    reductions = {name: operators(written / onnx_of(name)).count("ReduceMean") for name in PROBES}
    assert reductions["probe attention grams by a product"] == reductions["probe attention"] - 2
    assert reductions["probe attention grams in two steps"] == reductions["probe attention"] + 2
    assert reductions["probe DACB pooled"] == reductions["probe DACB"] - 2
    assert reductions["probe DACB by a product"] == reductions["probe DACB"] - 1


def test_a_way_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    class Wrong(probes.PooledDACB):
        def pooled(self, detail):
            return 100 + super().pooled(detail)

    monkeypatch.setitem(probes.WAYS, "probe DACB pooled", probes.Way(DeployDACB, Wrong))
    with pytest.raises(ModelError, match="probe DACB pooled differs from its part"):
        probes.write_probes(tmp_path, SIZE)
    assert not (tmp_path / onnx_of("probe DACB pooled")).exists()


def test_the_deploy_form_is_left_as_it_was(deploy):
    before = copy.deepcopy(deploy)
    for way in probes.WAYS.values():
        probes.probe_of(way, deploy)
    assert [type(module) for module in deploy.modules()] == [type(module) for module in before.modules()]
    assert any(type(module) is DeployAttention for module in deploy.modules())
