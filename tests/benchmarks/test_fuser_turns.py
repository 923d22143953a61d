import json
from statistics import median

import pytest

from irvis.benchmarks.bench import main
from irvis.benchmarks.fuser_turns import take_turns_of_fusers
from irvis.benchmarks.turns import ratio
from irvis.runtime.errors import IrvisError
from irvis.runtime.files import sha256
from irvis.runtime.shipped import SHIPPED_MODEL

SIZE = (32, 48)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    """The shipped student for frames of 16x24 only."""
    onnx = pytest.importorskip("onnx")
    from onnx.tools.update_model_dims import update_inputs_outputs_dims

    model = onnx.load(SHIPPED_MODEL)
    (output,) = model.graph.output
    inputs = {each.name: [1, 1, 16, 24] for each in model.graph.input}
    update_inputs_outputs_dims(model, inputs, {output.name: [1, 1, 16, 24]})
    path = tmp_path_factory.mktemp("fixed") / "fixed.onnx"
    onnx.save(model, path)
    return path


def test_each_model_is_timed_once_a_round_and_compared_with_the_first_in_the_same_round(capsys, tmp_path):
    file = tmp_path / "turns.json"
    assert main(["turns", "student", "fast", "student", "--size", "32x48", "--rounds", "7", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert [model["model"] for model in found["models"]] == ["student", "fast", "student"]
    assert found["models"][0]["sha256"] == sha256(SHIPPED_MODEL)
    assert found["size"] == "32x48"
    first = found["models"][0]["total_ms"]
    lines = capsys.readouterr().out.splitlines()
    for model, row in zip(found["models"], lines[-3:]):
        assert len(model["total_ms"]) == len(model["pre_ms"]) == len(model["post_ms"]) == 7
        for pre_ms, post_ms, total_ms in zip(model["pre_ms"], model["post_ms"], model["total_ms"]):
            assert 0 < pre_ms + post_ms < total_ms
        quartiles = ratio(first, model["total_ms"])
        assert model["times_as_fast_as_the_first"] == quartiles._asdict()
        assert row.split()[4] == f"{median(model['total_ms']):.2f}"
        if row is not lines[-3]:
            assert str(quartiles) in row
    assert "7 rounds" in lines[1]


def test_frames_have_the_size_of_a_model_that_takes_one(fixed):
    found = take_turns_of_fusers(["student", fixed], rounds=1)
    assert found.size == (16, 24)
    assert [fuser.size for fuser in found.fusers] == [(16, 24), (16, 24)]


def test_resized_frames_keep_their_own_size(fixed):
    found = take_turns_of_fusers(["student", fixed], rounds=1, size=SIZE, resize=True)
    assert found.size == SIZE
    assert [fuser.size for fuser in found.fusers] == [SIZE, (16, 24)]
    assert f"{fixed}  16x24" in found.to_text()


def test_what_cannot_be_timed_is_refused_in_one_line(fixed, capsys, tmp_path):
    with pytest.raises(IrvisError, match=r"give two models or more to time in turn. Got student"):
        take_turns_of_fusers(["student"], 1)
    with pytest.raises(IrvisError, match=r"frames are 32x48, fixed.onnx takes 16x24 .*--resize"):
        take_turns_of_fusers(["student", fixed], 1, SIZE)
    assert main(["turns", "student", str(tmp_path / "none.onnx")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "none.onnx" in error
    assert main(["turns", "student", str(fixed), "--json", str(fixed)]) == 1
    assert "fixed.onnx" in capsys.readouterr().err
