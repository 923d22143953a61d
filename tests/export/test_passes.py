import json

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import numpy as np
from onnx import TensorProto, helper

from irvis.export import fused_groups
from irvis.export.passes import PEAK_GB_PER_S, count_traffic
from irvis.export.to_onnx import export
from irvis.runtime import cli
from irvis.runtime.images import read_image
from irvis.student.network import Student


def run(capsys, *arguments):
    """Return the exit code, stdout and the lines on stderr of ``irvis passes``."""
    code = cli.main(["passes", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err.splitlines()


def test_the_plain_student_moves_what_its_blocks_do(graphs):
    """By hand, in passes, thin tensors and weights left out.

    An attention: LayerNorm 6, qkv 1 + 3, its depthwise 3 + 3, three Gathers 6, two norms 2, two quotients 4, q k^T 2,
    A v 2, projection with its residual 3, q, k, v and A v converted 8: 43. A feed-forward: LayerNorm 6, 1 + 4, 4 + 4,
    Split 8, gelu and product 4 + 2, projection with its residual 4: 37. A DACB: 2 + 3 + 3, the mean 1, the product and
    sum 3: 12. Encoders: half of 32 channels twice, written, read and written 3; Concat 2. Fusion: Concat 4,
    convolution 3. Decoder: 1 + .5, .5.
    """
    expected = 4 * (43 + 37) + 3 * 12 + (3 + 2) + (4 + 3) + 2
    assert count_traffic(graphs[0]).passes == pytest.approx(expected, rel=0.005)


def test_the_deploy_form_moves_less(graphs):
    """Attention: y^2 2, its mean 1, the quotient 2, 1 + 3, 3 + 3, q and k copied 4 and read 2, A v 2, projection with
    its residual 3, q, k, v and A v converted 8: 34. Feed-forward: 5, 1 + 4, 8, 4 + 2, 4: 28. Encoders 3, fusion
    1 + 1 + 3.
    """
    plain, deploy = map(count_traffic, graphs)
    expected = 4 * (34 + 28) + 3 * 12 + (3 + 1 + 1) + 5 + 2
    assert deploy.passes == pytest.approx(expected, rel=0.01)
    assert deploy.bytes / plain.bytes < 0.81
    assert sum(group.bytes for group in deploy.of_kind("copy")) == pytest.approx(16 / 296 * deploy.bytes, rel=0.02)
    assert sum(group.bytes for group in deploy.of_kind("conversion")) == pytest.approx(
        32 / 296 * deploy.bytes, rel=0.02
    )


def test_the_kernels_are_worked_out_once(graphs, monkeypatch):
    made, plan = [], fused_groups._Plan
    monkeypatch.setattr(fused_groups, "_Plan", lambda *given: made.append(given) or plan(*given))
    count_traffic(graphs[0])
    assert len(made) == 1


def test_passes_do_not_depend_on_the_size(graphs):
    for path in graphs:
        small, large = count_traffic(path, (48, 64)), count_traffic(path, (480, 640))
        assert [group.nodes for group in small.groups] == [group.nodes for group in large.groups]
        assert small.passes == pytest.approx(large.passes, rel=0.05)  # weights, and each row's Gram matrix
        assert small.passes > large.passes


def test_a_shipped_student_is_given_by_its_name(graphs, tmp_path, capsys):
    code, _, err = run(capsys, graphs[0], "fast", "--json", tmp_path / "p.json")
    assert (code, err) == (0, [])
    assert json.loads((tmp_path / "p.json").read_text())["deploy"]["file"] == "fast.onnx"


def test_a_fixed_size_counts_as_any_size_does(graphs, tmp_path):
    student = Student().eval()
    planes = tuple(np.random.default_rng(0).integers(0, 256, (2, 48, 64), np.uint8))
    export(student, tmp_path / "fixed.onnx", (48, 64), pairs=[planes])
    assert count_traffic(tmp_path / "fixed.onnx").bytes == count_traffic(graphs[1], (48, 64)).bytes


def test_the_table_and_the_json_agree(graphs, tmp_path, capsys):
    report = tmp_path / "passes.json"
    code, out, err = run(capsys, *graphs, "--size", "48x64", "--top", "2", "--json", report)
    assert (code, err) == (0, [])
    found = json.loads(report.read_text())
    plain, deploy = found["plain"], found["deploy"]
    assert found["ratio"] == pytest.approx(deploy["bytes"] / plain["bytes"])
    assert f"deploy.onnx moves {100 * found['ratio']:.1f} % of what plain.onnx does" in out
    for graph in (plain, deploy):
        assert graph["size"] == [48, 64]
        moved = sum(kernel["read_bytes"] + kernel["written_bytes"] for kernel in graph["kernels"])
        assert graph["bytes"] == moved
        assert graph["passes"] == pytest.approx(moved / (2 * 32 * 48 * 64))
        assert graph["peak_ms"] == pytest.approx(moved / PEAK_GB_PER_S / 1e6)
        assert graph["usable_ms"] == pytest.approx(graph["peak_ms"] / 0.75)
        assert f"{'total':<20}{len(graph['kernels']):>8}{graph['passes']:>9.1f}" in out
    assert out.count("read + ") == 4
    heaviest = max(plain["kernels"], key=lambda kernel: kernel["passes"])
    assert f"{heaviest['kind']}: {', '.join(heaviest['nodes'])}\n" in out


def test_a_name_that_a_terminal_would_obey_is_shown_escaped(graphs, tmp_path, capsys):
    model = onnx.load(graphs[1])
    for node in model.graph.node:
        node.name = f"{node.name}\x1b]0;yours\x07"
    onnx.save(model, tmp_path / "named.onnx")
    code, out, err = run(capsys, graphs[0], tmp_path / "named.onnx", "--size", "48x64", "--top", "3")
    assert (code, err) == (0, [])
    assert "\\x1b]0;yours" in out
    assert "\x1b" not in out


def test_both_are_drawn(graphs, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    code, out, _ = run(capsys, *graphs, "--size", "32x32", "--plot", tmp_path / "passes.png")
    assert code == 0
    assert out.endswith(f"wrote {tmp_path / 'passes.png'}\n")
    assert read_image(tmp_path / "passes.png").std() > 5


def test_a_picture_of_no_known_kind_is_one_line(graphs, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    code, _, err = run(capsys, *graphs, "--size", "32x32", "--plot", tmp_path / "passes.xyz")
    assert code == 1
    assert len(err) == 1
    assert "cannot draw into" in err[0]
    assert not list(tmp_path.iterdir())


def relu(path, *shape, kind=TensorProto.FLOAT, operator="Relu"):
    info = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", info[:1], info[1:])
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    )
    return path


def test_errors_are_one_line(graphs, tmp_path, capsys):
    fixed, other = relu(tmp_path / "a.onnx", 1, 1, 16, 24), relu(tmp_path / "b.onnx", 1, 1, 32, 24)
    frames = relu(tmp_path / "frames.onnx", 16, 24, kind=TensorProto.UINT8, operator="Identity")
    nothing = relu(tmp_path / "nothing.onnx", 1, 1, 16, 24, operator="Identity")
    (tmp_path / "no.onnx").write_bytes(b"no")
    for arguments, said in [
        ([tmp_path / "missing.onnx", fixed], "ONNX not found"),
        ([fixed, tmp_path / "no.onnx"], "not an ONNX"),
        ([fixed, frames], "exported without --frames"),
        ([fixed, nothing], "computes nothing"),
        ([fixed, other], "different sizes, 16x24 and 32x24"),
        ([fixed, fixed, "--size", "32x24"], "fixed to 16x24, not 32x24"),
        ([fixed, fixed, "--json", tmp_path], "it is a folder"),
    ]:
        code, out, err = run(capsys, *arguments)
        assert (code, out, len(err)) == (1, "", 1), arguments
        assert said in err[0]


@pytest.mark.parametrize("wrong", [["--top", "-1"], ["--top", "x"], ["--size", "4x4"], []])
def test_wrong_usage_exits_with_2(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["passes", "plain.onnx", *(["deploy.onnx", *wrong] if wrong else [])])
    assert "usage: irvis passes" in capsys.readouterr().err
