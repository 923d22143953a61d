import copy
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from irvis.benchmarks.peers import tables
from irvis.benchmarks.peers.tables import DEPLOY, STUDENT, draw, timed, to_cells, to_markdown, to_text
from irvis.runtime.errors import IrvisError

RESULTS = Path(__file__).parents[3] / "docs/results"


def form(*latencies_ms, difference=None):
    return {"backend": "b", "max_difference": difference, "latencies_ms": list(latencies_ms)}


def method(name, forms, scd=None):
    quality = {} if scd is None else {"CC": 0.5, "SCD": scd}
    return {
        "name": name,
        "macs": 22_614_000_000,
        "thop_macs": 1,
        "parameters": 77_713,
        "quality": quality,
        "forms": forms,
    }


DOCUMENT = {
    "schema_version": 1,
    "kind": "peers",
    "machine": {"cpu": "a CPU", "gpu": None, "os": "an OS", "backends": ["PyTorch 2", "ONNX Runtime 1"]},
    "size": {"height": 480, "width": 640},
    "threads": 2,
    "rounds": 3,
    "quality_of": {"data_set": "TNO/test", "pairs": 25},
    "methods": [
        method(STUDENT, {"PyTorch": form(40.0, 400.0, 42.0, difference=0.0)}, 1.92),
        method(
            DEPLOY, {"PyTorch": form(20.0, 200.0, 20.0), "ONNX Runtime": form(8.0, 10.0, 9.0, difference=3e-7)}, 1.92
        ),
        method("SHIP", {"ONNX Runtime": form(80.0, 90.0, 90.0, difference=1e-4)}, 1.549),
        method("Unknown", {"ONNX Runtime": form(4.0, 5.0, 4.5)}),
    ],
}


def test_each_runtime_has_its_methods_by_latency_and_ratios_within_a_round():
    rows = [(row.method["name"], row.runtime, row.times_deploy) for row in timed(DOCUMENT)]
    assert rows == [
        (DEPLOY, "PyTorch", ""),
        (STUDENT, "PyTorch", "2.00 (2.00 to 2.05)"),
        ("Unknown", "ONNX Runtime", "0.50 (0.50 to 0.50)"),
        (DEPLOY, "ONNX Runtime", ""),
        ("SHIP", "ONNX Runtime", "10.00 (9.50 to 10.00)"),
    ]
    other = copy.deepcopy(DOCUMENT)
    other["methods"][2]["forms"]["ONNX Runtime"]["latencies_ms"][0] = 1.0  # one quick round makes no fast method
    assert [row.method["name"] for row in timed(other)] == [name for name, *_ in rows]
    del other["methods"][1]
    assert {row.times_deploy for row in timed(other)} == {""}


def test_the_table_has_cost_and_quality():
    head, rows = to_cells(DOCUMENT)
    assert head[-2:] == ["CC", "SCD"]  # what nobody has is no column
    ship = ["SHIP", "ONNX Runtime", "90.00 (85.00 to 90.00)", "10.00 (9.50 to 10.00)", "1e-04", "22.61", "0.0777"]
    assert rows[-1] == [*ship, "0.500", "1.549"]
    assert rows[2][-2:] == ["", ""]
    assert rows[1][2] == "42.00 (41.00 to 221.00)"  # of 40, 42 and 400
    assert rows[1][4] == ""  # PyTorch is what the others are compared with
    assert "TNO/test, 25 pairs" in to_text(DOCUMENT)
    assert "480x640 (HEIGHTxWIDTH), a CPU, 2 CPU threads; medians (and quartiles) over 3 rounds" in to_text(DOCUMENT)
    assert f"| {' | '.join(rows[-1])} |\n" in to_markdown(DOCUMENT)
    assert f"\n| --- | --- |{' ---: |' * 7}\n" in to_markdown(DOCUMENT)
    assert to_text({**DOCUMENT, "quality_of": None}).endswith("not thop's.")


def test_the_plot_is_drawn_of_what_has_quality(tmp_path):
    pytest.importorskip("matplotlib")
    draw(DOCUMENT, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(IrvisError, match=r"no method has a PSNR; give --quality"):
        draw(DOCUMENT, tmp_path / "none.png", "PSNR")
    assert not (tmp_path / "none.png").exists()


def test_a_spot_of_the_plot_is_the_median_latency_and_the_quality_and_ours_are_red(tmp_path, monkeypatch):
    colors = pytest.importorskip("matplotlib.colors")
    drawn = []
    monkeypatch.setattr(tables, "save_figure", lambda figure, *_, **__: drawn.append(figure))
    draw(DOCUMENT, tmp_path / "peers.png")
    red, blue = map(colors.to_rgba, ("tab:red", "tab:blue"))
    for axis, title, wanted in zip(
        drawn[0].axes,
        ("PyTorch", "ONNX Runtime"),
        ([(20.0, 1.92, red), (42.0, 1.92, red)], [(9.0, 1.92, red), (90.0, 1.549, blue)]),
    ):
        spots = [(*spot.get_offsets()[0], tuple(spot.get_facecolor()[0])) for spot in axis.collections]
        assert (axis.get_title(), spots) == (title, wanted)
    assert drawn[0].axes[0].get_ylabel() == "SCD, TNO/test"


def test_a_name_stands_beside_its_own_spot(tmp_path, monkeypatch):
    """In the plot of the README, whose spots are so near each other that a name has few places."""
    drawn = []
    monkeypatch.setattr(tables, "save_figure", lambda figure, *_, **__: drawn.append(figure))
    draw(json.loads((RESULTS / "peers-cpu.json").read_text()), tmp_path / "peers.png")
    (axis,) = drawn[0].axes
    spots = axis.transData.transform([label.xy for label in axis.texts])
    for index, label in enumerate(axis.texts):
        box = label.get_window_extent()
        gaps = np.hypot(*np.maximum(0, np.maximum(box.min - spots, spots - box.max)).T)
        assert gaps.argmin() == index, label.get_text()
