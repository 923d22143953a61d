import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from irvis.export.check_onnx import find_obstacles
from irvis.export.frames_module import FramesModule, largest_level_difference
from irvis.export.sample_frames import read_frames
from irvis.export.to_onnx import export
from irvis.runtime import Fuser, cli
from irvis.runtime.frames import join_luminance, split_luminance, to_unit
from irvis.runtime.pairs import pairs_of
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import SHIPPED_MODEL, find_model
from irvis.student.checkpoint import load_student

SIZE = (24, 37)


class Uneven(nn.Module):
    """Fuses to values outside of [0, 1] too."""

    def forward(self, infrared, visible):
        return 1.7 * infrared - 0.4 * visible * visible


class OnlyVisible(nn.Module):
    def forward(self, infrared, visible):
        return visible


@pytest.fixture(scope="module")
def student():
    return load_student(SHIPPED_MODEL.with_suffix(".safetensors"))


@pytest.fixture(scope="module")
def exported(student, tmp_path_factory):
    """The shipped student with frames: path by whether it is dynamic."""
    folder = tmp_path_factory.mktemp("frames")
    paths = {}
    for dynamic in (False, True):
        paths[dynamic] = folder / f"{dynamic}.onnx"
        assert export(student, paths[dynamic], None if dynamic else SIZE, frames=True, pairs=[scene()]) <= 1
    return paths


@pytest.mark.parametrize("size", [SIZE, (32, 48), None])
def test_blocks_at_a_stride_are_exported_with_frames(tmp_path, size):
    fast = load_student(find_model("fast", ".safetensors"))
    assert export(fast, tmp_path / "fast.onnx", size, frames=True, pairs=[scene()]) <= 1
    assert find_obstacles(onnx.load(tmp_path / "fast.onnx")) == []


@pytest.fixture(scope="module")
def fusers(exported):
    """One with frames inside of the model, one with them on the host."""
    with Fuser(exported[True], threads=1) as inside, Fuser(threads=1) as host:
        assert inside.backend.takes_frames
        assert not host.backend.takes_frames
        yield inside, host


def scene(size=SIZE):
    return make_scene("street", *size)


def random_frames(seed, size=SIZE):
    source = np.random.default_rng(seed)
    return source.integers(0, 256, size, np.uint8), source.integers(0, 256, (*size, 3), np.uint8)


def level_difference(one, other):
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    return np.abs(one.astype(int) - other)


@given(st.integers(0, 2**32 - 1))
def test_in_pytorch_it_computes_what_the_runtime_does(seed):
    infrared, visible = random_frames(seed)
    planes, luminance = np.empty((2, *SIZE), np.float32), split_luminance(visible)
    to_unit(infrared, planes[0])
    to_unit(luminance.y, planes[1])
    fused = FramesModule(Uneven())(torch.from_numpy(infrared), torch.from_numpy(visible)).numpy()
    wanted = join_luminance(Uneven()(*torch.from_numpy(planes)).numpy(), luminance)
    np.testing.assert_array_equal(fused, wanted)


@given(st.integers(0, 2**32 - 1))
def test_unchanged_luminance_gives_the_visible_back_to_the_bit(seed):
    infrared, visible = map(torch.from_numpy, random_frames(seed))
    assert torch.equal(FramesModule(OnlyVisible())(infrared, visible), visible)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_onnx_is_within_a_grey_level_of_the_host_on_random_frames(fusers, seed):
    inside, host = fusers
    difference = level_difference(inside(*random_frames(seed)), host(*random_frames(seed)))
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.99


@pytest.mark.parametrize("name", ["TNO", "RoadScene", "MSRS"])
def test_the_onnx_is_within_a_grey_level_of_the_host_on_real_pairs(fusers, data, name):
    inside, host = fusers
    pairs = pairs_of(data / name / "test")
    equal = []
    for pair in pairs[:: len(pairs) // 3][:3]:
        infrared, visible = read_frames(pair)
        part = slice(40, 140), slice(60, 200)
        difference = level_difference(inside(infrared[part], visible[part]), host(infrared[part], visible[part]))
        assert difference.max() <= 1
        equal.append((difference == 0).mean())
    assert min(equal) > 0.999  # 1 in all nine pairs, when this was written


def test_the_graph_is_as_documented(exported):
    for dynamic, path in exported.items():
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert find_obstacles(model) == []
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
        assert not any(node.op_type == "Transpose" and "network" not in node.name for node in model.graph.node)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        height, width = ("height", "width") if dynamic else SIZE
        assert {value.name: (value.type, value.shape) for value in (*session.get_inputs(), *session.get_outputs())} == {
            "infrared": ("tensor(uint8)", [height, width]),
            "visible": ("tensor(uint8)", [height, width, 3]),
            "fused": ("tensor(uint8)", [height, width, 3]),
        }
        metadata = session.get_modelmeta().custom_metadata_map
        assert metadata["frames"] == "true"
        assert metadata["inputs"] == "infrared: uint8 (H, W); visible: uint8 BGR (H, W, 3)"
        assert metadata["output"].startswith("fused: uint8 BGR (H, W, 3)")


def test_an_onnx_of_planes_says_so(student, tmp_path):
    export(student, tmp_path / "s.onnx", (16, 16))
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "s.onnx").metadata_props}
    assert metadata["frames"] == "false"


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_the_check_tells_levels(exported, student):
    class Brighter(nn.Module):
        def forward(self, infrared, visible):
            return student(infrared, visible) + 5 / 255

    class BrighterIfTaller(nn.Module):
        def forward(self, infrared, visible):
            return student(infrared, visible) + (infrared.shape[2] > SIZE[0]) * 5 / 255

    class Broken(nn.Module):
        def forward(self, infrared, visible):
            return student(infrared, visible) * float("nan")

    session, pairs = session_of(exported[False]), [scene(), scene((30, 44))]
    assert largest_level_difference(student, session, pairs, SIZE) <= 1
    assert 4 <= largest_level_difference(Brighter(), session, pairs, SIZE) <= 6
    assert largest_level_difference(Broken(), session, pairs, SIZE) == 256
    dynamic = session_of(exported[True])
    assert largest_level_difference(student, dynamic, pairs, None) <= 1
    for order in (pairs, pairs[::-1]):  # the worst of them, be it the first or the last
        assert 4 <= largest_level_difference(BrighterIfTaller(), dynamic, order, None) <= 6


def test_the_command(samples, tmp_path, capsys):
    output, checkpoint = tmp_path / "s.onnx", SHIPPED_MODEL.with_suffix(".safetensors")
    arguments = [checkpoint, "-o", output, "--size", "32x40", "--frames", "--pairs", samples]
    assert cli.main(["export", *map(str, arguments)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"wrote {output}: deploy form with frames, 32x40, opset 13, ")
    assert said.endswith(f"PyTorch on {len(pairs_of(samples))} pairs: {said.split()[-3]} grey levels\n")
    with Fuser(output) as fuser:
        assert fuser.size == (32, 40)
        assert fuser.backend.takes_frames
