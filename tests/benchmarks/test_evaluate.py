import csv
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("skimage")

from irvis.benchmarks.evaluate import evaluate_pairs, mean
from irvis.benchmarks.metrics import evaluate_fusion
from irvis.runtime.cli import main
from irvis.runtime.errors import FileError
from irvis.runtime.frames import to_grey
from irvis.runtime.fuser import Fuser
from irvis.runtime.images import read_infrared, read_visible, write_image
from irvis.runtime.pairs import pairs_of
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import SHIPPED_MODEL

NAMES = ["CC", "PSNR", "SCD", "SSIM", "EN", "SD", "SF", "AG", "MI", "VIF", "Qabf"]
MEAN = "mean of the inputs"
FOOTNOTE = "* published SSIM is not comparable"


def run(capsys, *arguments):
    """Return the exit code, the blocks on stdout as lists of lines, and stderr of ``irvis evaluate``."""
    code = main(["evaluate", *map(str, arguments)])
    said = capsys.readouterr()
    return code, [block.splitlines() for block in said.out.split("\n\n") if block.strip()], said.err


def figures(line):
    """Return the numbers at the end of a line of the table."""
    return [float(cell) for cell in line.split()[-len(NAMES) :]]


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def few_pairs(folder, count, side=48):
    """Write ``count`` pairs of noise into a folder."""
    generator = np.random.default_rng(0)
    for index in range(count):
        for half in ("ir", "vi"):
            plane = generator.integers(0, 256, (side, side)).astype(np.uint8)
            write_image(folder / half / f"{index:03}.png", plane)
    return folder


@pytest.fixture(scope="module")
def by_hand(samples):
    """What the table of the samples must hold: metric -> mean over the pairs, for the shipped student and the mean."""
    values = {"student.onnx": [], MEAN: []}
    with Fuser(infrared_smoothing=0) as fuser:
        for pair in pairs_of(samples):
            infrared, visible = read_infrared(pair.infrared), to_grey(read_visible(pair.visible))
            values["student.onnx"].append(evaluate_fusion(infrared, visible, fuser(infrared, visible)))
            halved = np.rint((infrared.astype(float) + visible) / 2).astype(np.uint8)
            values[MEAN].append(evaluate_fusion(infrared, visible, halved))
    return {by: {name: np.mean([row[name] for row in rows]) for name in NAMES} for by, rows in values.items()}


def test_the_table_has_a_row_of_the_shipped_student_and_one_of_the_mean(samples, by_hand, capsys):
    code, blocks, trouble = run(capsys, samples)
    assert (code, trouble, len(blocks)) == (0, "", 1)
    title, head, *rows = blocks[0]
    assert title == f"{samples.parent.name}/{samples.name}, {len(pairs_of(samples))} pairs"
    assert head.split() == ["fused", "by", *NAMES]
    assert [row[: len(by)] for row, by in zip(rows, by_hand)] == list(by_hand)
    assert len(rows) == 2
    for row, expected in zip(rows, by_hand.values()):
        assert figures(row) == pytest.approx(list(expected.values()), abs=6e-5)
    # Every figure ends where its column's head ends.
    ends = [head.index(f" {name}") + 1 + len(name) for name in NAMES]
    assert all(row[:end].endswith(cell) for row in rows for end, cell in zip(ends, row.split()[-len(NAMES) :]))


def test_files_hold_the_same_figures(samples, by_hand, tmp_path, capsys):
    files = {name: tmp_path / "new" / f"table.{name[2:]}" for name in ("--csv", "--markdown", "--latex")}
    assert run(capsys, samples, *(part for option in files.items() for part in option))[0] == 0
    rows = read_csv(files["--csv"])
    assert [(row["fused_by"], row["kind"]) for row in rows] == [("student.onnx", "model"), (MEAN, "baseline")]
    for row, expected in zip(rows, by_hand.values()):
        assert (row["data_set"], row["pairs"]) == (f"{samples.parent.name}/{samples.name}", "3")
        for name in NAMES:
            assert float(row[name]) == pytest.approx(expected[name], rel=1e-12), name
    lines = files["--markdown"].read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["data set", "pairs", "fused by", *NAMES]
    assert [row[2] for row in cells[2:]] == ["student.onnx", MEAN]
    assert cells[2][3:] == [f"{by_hand['student.onnx'][name]:.4f}" for name in NAMES]  # nothing is best of one
    latex = files["--latex"].read_text(encoding="utf-8")
    assert all(f"{' & '.join(row)} \\\\" in latex for row in [cells[0], *cells[2:]])


def test_files_are_written_whatever_the_names_in_them(tmp_path, capsys):
    folder = few_pairs(tmp_path / os.fsdecode(b"caf\xe9"), 1)
    files = [tmp_path / "a.csv", tmp_path / "a.md"]
    assert run(capsys, folder, "--csv", files[0], "--markdown", files[1])[0] == 0
    assert all(r"caf\udce9" in file.read_text(encoding="utf-8") for file in files)


def test_checkpoints_run_in_pytorch_and_score_as_their_onnx_does(samples, tmp_path, capsys):
    pytest.importorskip("torch")
    shutil.copy(SHIPPED_MODEL, tmp_path / "other.onnx")
    options = [
        part
        for model in (SHIPPED_MODEL.with_suffix(".safetensors"), tmp_path / "other.onnx")
        for part in ("--model", model)
    ]
    table = tmp_path / "table.csv"
    code, _, trouble = run(capsys, samples, *options, "--csv", table)
    assert (code, trouble) == (0, "")
    rows = read_csv(table)
    assert [row["fused_by"] for row in rows] == ["student.safetensors", "other.onnx", MEAN]
    for name in NAMES:
        # Rounding to 8 bits may fall the other way where the two differ by 1e-6.
        assert float(rows[0][name]) == pytest.approx(float(rows[1][name]), rel=1e-3), name


def test_models_of_one_file_name_are_told_apart_by_their_paths(samples, tmp_path, capsys):
    other = shutil.copy(SHIPPED_MODEL, tmp_path / SHIPPED_MODEL.name)
    models = [part for model in (SHIPPED_MODEL, other, other) for part in ("--model", model)]
    few = tmp_path / "few"
    for half in ("ir", "vi"):
        shutil.copytree(samples / half, few / half)
    code, blocks, _ = run(capsys, few, *models)
    assert code == 0
    assert [line[: len(str(by))] for line, by in zip(blocks[0][2:], (SHIPPED_MODEL, other, MEAN))] == [
        str(SHIPPED_MODEL),
        str(other),
        MEAN,
    ]
    assert len(blocks[0]) == 2 + 3


def test_a_published_network_is_padded_to_the_sizes_that_it_takes_and_cast_as_its_authors_do(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from irvis.student.teachers.network import CASTS
    from irvis.student.teachers.published import network_class

    torch.manual_seed(0)
    network = network_class("SFDFusion")().eval()  # takes even sides
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    folder = few_pairs(tmp_path / "odd", 1, side=43)
    table = tmp_path / "table.csv"
    assert run(capsys, folder, "--model", f"sfdfusion={tmp_path / 'weights.safetensors'}", "--csv", table)[0] == 0
    pair = pairs_of(folder)[0]
    planes = read_infrared(pair.infrared), read_visible(pair.visible)
    padded = [np.pad(plane, ((0, 1), (0, 1)), mode="edge") / np.float32(255) for plane in planes]
    with torch.no_grad():
        _, fused = network(*(torch.from_numpy(plane)[None, None] for plane in padded))
    expected = evaluate_fusion(*planes, CASTS[network.cast](fused[0, 0, :43, :43].numpy()))
    row = read_csv(table)[0]
    assert row["fused_by"] == "SFDFusion"
    assert {name: float(row[name]) for name in NAMES} == pytest.approx(expected, rel=1e-6)


OWN_TEACHERS = """
import torch
from torch import nn


class Brighter(nn.Module):
    def __init__(self, scale=1.0, shift=0.0, noise=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.decoder = nn.Conv2d(1, 1, 1)
        self.scale, self.shift, self.noise = scale, shift, noise

    def forward(self, infrared, visible):
        fused = torch.maximum(infrared, visible)
        self.decoder(fused)
        return fused * self.scale + self.shift + self.noise * torch.rand_like(fused)


def brighter():
    return Brighter()


def random():
    return Brighter(scale=0.5, noise=0.5)


def beyond():
    return Brighter(scale=2.0, shift=-1.0)


def broken():
    return Brighter(scale=float("nan"))


class Rows(Brighter):
    def forward(self, infrared, visible):
        return super().forward(infrared, visible)[:, :, :-1]


def rows():
    return Rows()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The current folder, with a module of teachers in it."""
    pytest.importorskip("torch")
    (tmp_path / "own_evaluated.py").write_text(OWN_TEACHERS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_evaluated", None)


def brightest(infrared, luminance):
    return np.maximum(infrared, luminance)


def test_a_teacher_of_ones_own_has_a_row_beside_the_students(samples, by_hand, own, capsys):
    table = own / "table.csv"
    spec = "own_evaluated:brighter,feature=decoder"
    code, blocks, trouble = run(capsys, samples, "--teacher", spec, "--csv", table)
    assert (code, trouble, len(blocks[0])) == (0, "", 2 + 3)
    rows = read_csv(table)
    assert [(row["fused_by"], row["kind"]) for row in rows] == [
        ("student.onnx", "model"),
        ("own_evaluated:brighter", "model"),
        (MEAN, "baseline"),
    ]
    expected = evaluate_pairs(pairs_of(samples), brightest)
    for name in NAMES:
        assert float(rows[0][name]) == pytest.approx(by_hand["student.onnx"][name], rel=1e-12), name
        assert float(rows[1][name]) == pytest.approx(expected[name], rel=1e-12), name


def test_an_onnx_teacher_fuses_by_the_tensor_that_its_spec_names(own, capsys):
    onnx = pytest.importorskip("onnx")
    value = [onnx.helper.make_tensor_value_info(name, 1, [1, 1, "h", "w"]) for name in ("ir", "vi", "dull")]
    nodes = [
        onnx.helper.make_node("Max", ["ir", "vi"], ["bright"]),
        onnx.helper.make_node("Min", ["ir", "vi"], ["dull"]),
    ]
    graph = onnx.helper.make_graph(nodes, "own", value[:2], value[2:])
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), "student.onnx")
    folder, table = few_pairs(own / "few", 2), own / "table.csv"
    spec = "student.onnx,fused=bright,feature=dull"
    code, _, trouble = run(capsys, folder, "--teacher", spec, "--csv", table)
    assert (code, trouble) == (0, "")
    rows = read_csv(table)
    assert [row["fused_by"] for row in rows] == ["student", spec, MEAN]  # both files are called student.onnx
    expected = evaluate_pairs(pairs_of(folder), brightest)
    assert {name: float(rows[1][name]) for name in NAMES} == pytest.approx(expected, rel=1e-12)


def test_a_published_teacher_and_a_student_as_one_score_as_the_models_do(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from irvis.student.teachers.published import network_class

    torch.manual_seed(0)
    save_file(network_class("MMDRFuseStudent")().state_dict(), tmp_path / "weights.safetensors")
    folder, table = few_pairs(tmp_path / "few", 1), tmp_path / "table.csv"
    published = f"mmdrfusestudent={tmp_path / 'weights.safetensors'}"
    checkpoint = SHIPPED_MODEL.with_suffix(".safetensors")
    options = ("--model", published, "--model", checkpoint, "--teacher", published, "--teacher", checkpoint)
    code, _, trouble = run(capsys, folder, *options, "--csv", table)
    assert (code, trouble) == (0, "")
    rows = read_csv(table)
    assert [row["fused_by"] for row in rows] == [published, "student.safetensors", published, "student", MEAN]
    for name in NAMES:
        assert rows[0][name] == rows[2][name]
        assert rows[1][name] == rows[3][name]


@pytest.mark.parametrize("device", ["abacus", "meta", "cuda:99", "cpu:x"])
def test_a_device_that_pytorch_cannot_use_is_one_line_before_anything_is_measured(samples, tmp_path, capsys, device):
    pytest.importorskip("torch")
    table = tmp_path / "table.csv"
    code, blocks, trouble = run(capsys, samples, "--device", device, "--csv", table)
    assert (code, blocks, trouble.count("\n"), table.exists()) == (1, [], 1, False)
    assert trouble.startswith(f"irvis evaluate: PyTorch cannot use the device {device}: ")
    assert trouble.endswith("; give cpu\n")


@pytest.mark.gpu
def test_on_a_gpu_checkpoints_and_teachers_score_as_on_the_cpu(samples, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    checkpoint = SHIPPED_MODEL.with_suffix(".safetensors")
    rows = []
    for device in ("cpu", "cuda"):
        table = tmp_path / f"{device}.csv"
        options = ("--model", checkpoint, "--teacher", "fast", "--device", device, "--csv", table)
        assert run(capsys, samples, *options)[0] == 0
        rows.append(read_csv(table))
    for on_cpu, on_gpu in zip(*rows):
        assert [float(on_gpu[name]) for name in NAMES] == pytest.approx(
            [float(on_cpu[name]) for name in NAMES], abs=1e-3
        )


def test_a_teacher_that_draws_random_numbers_scores_the_same_at_every_run(own, capsys):
    folder = few_pairs(own / "few", 2)
    tables = [run(capsys, folder, "--teacher", "own_evaluated:random,feature=decoder")[1] for _ in range(2)]
    assert tables[0] == tables[1]
    rows = {line.split()[0]: figures(line) for line in tables[0][0][2:]}
    assert rows["own_evaluated:random"] != pytest.approx(figures(tables[0][0][-1]), abs=1e-3)


def test_a_teacher_beyond_the_range_is_told_once_and_clipped(own, capsys, caplog):
    folder, table = few_pairs(own / "few", 3), own / "table.csv"
    assert run(capsys, folder, "--teacher", "own_evaluated:beyond,feature=decoder", "--csv", table)[0] == 0
    (said,) = caplog.messages
    assert said.startswith("own_evaluated:beyond: ")
    assert "of its fused plane lies" in said
    expected = evaluate_pairs(
        pairs_of(folder), lambda *planes: np.maximum(2 * brightest(*planes).astype(int) - 255, 0).astype(np.uint8)
    )
    assert {name: float(read_csv(table)[1][name]) for name in NAMES} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--teacher", "own_evaluated:broken,feature=decoder"], "broken gives NaN or infinity on a pair of 48x48"),
        (["--teacher", "own_evaluated:rows,feature=decoder"], "Got (1, 1, 47, 48); wrap it"),
        (["--teacher", "own_evaluated:nowhere,feature=decoder"], "has no attribute 'nowhere'"),
        (["--teacher", "own_evaluated:brighter,feature=encoder"], "has no submodule encoder. Near: decoder"),
        (["--teacher", "own_evaluated:brighter"], "feature= is missing"),
        (["--teacher", "none.onnx,fused=a,feature=b"], "not found: none.onnx"),
        (["--teacher", "own_evaluated:brighter,feature=decoder"] * 2, "a teacher was given twice: own_ev"),
        (["--model", "own_evaluated:brighter,feature=decoder"], "has the form of a teacher; give it as --teacher"),
    ],
)
def test_a_teacher_that_does_not_serve_is_one_line_before_anything_is_measured(own, capsys, options, said):
    code, blocks, trouble = run(capsys, few_pairs(own / "few", 1), few_pairs(own / "more", 1), *options)
    assert (code, blocks, trouble.count("\n")) == (1, [], 1)
    assert said in trouble


def test_a_teachers_file_is_no_output(samples, own, capsys):
    (own / "own.onnx").write_bytes(b"weights")
    spec = "own.onnx,fused=a,feature=b"
    code, blocks, trouble = run(capsys, samples, "--teacher", spec, "--csv", "own.onnx")
    assert (code, blocks) == (1, [])
    assert trouble == "irvis evaluate: own.onnx would overwrite an input; give another name\n"
    assert (own / "own.onnx").read_bytes() == b"weights"


def save_maximum(file):
    """Write an ONNX that gives the maximum of two planes of 96x128."""
    onnx = pytest.importorskip("onnx")
    names = ["infrared", "visible", "fused"]
    value = [onnx.helper.make_tensor_value_info(name, 1, [1, 1, 96, 128]) for name in names]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Max", names[:2], names[2:])], "own", value[:2], value[2:])
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), file)


def test_frames_of_another_size_are_fitted_if_that_is_asked_for(tmp_path, capsys):
    model, few = tmp_path / "own.onnx", few_pairs(tmp_path / "few", 1)
    save_maximum(model)
    code, _, trouble = run(capsys, few, "--model", model)
    assert (code, trouble.count("\n")) == (1, 1)
    code, ((_, _, own, _),), _ = run(capsys, few, "--model", model, "--resize")
    assert code == 0
    with Fuser(model, resize=True) as fuser:
        assert figures(own) == pytest.approx([*evaluate_pairs(pairs_of(few), fuser).values()], abs=1e-4)


def test_a_size_that_a_model_does_not_take_is_told_before_other_data_sets_are_measured(samples, own, capsys):
    save_maximum("own.onnx")
    spec = "own.onnx,fused=fused,feature=fused"
    code, blocks, trouble = run(capsys, samples, few_pairs(own / "few", 1), "--teacher", spec)
    assert (code, blocks, trouble.count("\n")) == (1, [], 1)
    assert "own.onnx takes only planes of 96x128" in trouble
    assert "Got 48x48" in trouble


def test_the_papers_figures_stand_beside_its_own_pairs(tmp_path, capsys):
    tno, part = (few_pairs(tmp_path / str(count) / "TNO" / "test", count, side=24) for count in (25, 2))
    files = tmp_path / "table.csv", tmp_path / "table.md"
    code, blocks, trouble = run(capsys, part, tno, "--csv", files[0], "--markdown", files[1])
    assert (code, trouble) == (0, "")
    assert len(blocks[0]) == 2 + 2  # two pairs are not the paper's 25
    lines = {line.split(", published")[0]: line for line in blocks[1] if ", published" in line}
    assert len(lines) == 12
    assert lines["SHIP"].split()[-4:] == ["0.4804", "13.4453", "1.5489", "1.2984*"]
    assert blocks[2][0].startswith(FOOTNOTE)
    assert len(blocks[2]) == 1

    rows = read_csv(files[0])
    published = [row for row in rows if row["kind"] == "published"]
    assert {row["data_set"] for row in published} == {"TNO/test"}
    ship = next(row for row in published if row["fused_by"] == "SHIP")
    assert [ship[name] for name in NAMES] == ["0.4804", "13.4453", "1.5489", "1.2984", *[""] * 7]

    text = files[1].read_text(encoding="utf-8")
    assert "| SHIP, published | 0.4804 | 13.4453 | 1.5489 | 1.2984* |" in text
    assert text.splitlines()[-1].startswith(FOOTNOTE)


def test_several_data_sets_are_tables_of_their_own(samples, tmp_path, capsys):
    other = tmp_path / "other"
    for pair in pairs_of(samples)[:1]:
        for half, path in (("ir", pair.infrared), ("vi", pair.visible)):
            (other / half).mkdir(parents=True)
            shutil.copy(path, other / half / path.name)
    code, blocks, _ = run(capsys, samples, other)
    assert code == 0
    assert [len(block) for block in blocks] == [4, 4]
    assert blocks[1][0].endswith("/other, 1 pair")
    assert figures(blocks[0][2]) != figures(blocks[1][2])


def test_the_mean_over_pairs_is_of_their_values(samples):
    pairs = pairs_of(samples)
    alone = [evaluate_pairs([pair], mean) for pair in pairs]
    together = evaluate_pairs(pairs, mean)
    assert list(together) == NAMES
    for name in NAMES:
        assert together[name] == pytest.approx(np.mean([value[name] for value in alone]), rel=1e-12)


def test_a_black_pair_costs_its_own_psnr_alone(tmp_path, caplog):
    pairs = pairs_of(few_pairs(tmp_path, 2))
    whole = evaluate_pairs(pairs, mean)["PSNR"]
    for half in ("ir", "vi"):
        write_image(tmp_path / half / "black.png", np.zeros((48, 48), np.uint8))
    assert evaluate_pairs(pairs_of(tmp_path), mean)["PSNR"] == pytest.approx(whole)
    told = f"{MEAN}: not finite, and left out of the mean: PSNR of 1 of 3 pairs, the first black"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_a_missing_folder_is_one_line(samples, tmp_path, capsys):
    code, blocks, trouble = run(capsys, samples, tmp_path / "none")
    assert (code, blocks) == (1, [])  # said before the minutes of the other folder
    assert trouble == f"irvis evaluate: folder not found: {tmp_path / 'none'}\n"


@pytest.mark.parametrize("model", ["none.onnx", "none.engine", "none.safetensors", "none.pt", "SHIP=none.safetensors"])
def test_a_missing_model_is_one_line(samples, capsys, model):
    if not model.endswith((".onnx", ".engine")):
        pytest.importorskip("torch")
    code, blocks, trouble = run(capsys, samples, "--model", model)
    assert (code, blocks, trouble.count("\n")) == (1, [], 1)
    assert model.split("=")[-1] in trouble or "TensorRT" in trouble


def test_an_unknown_network_is_one_line(samples, capsys):
    pytest.importorskip("torch")
    code, blocks, trouble = run(capsys, samples, "--model", f"SHEEP={SHIPPED_MODEL}")
    assert (code, blocks, trouble.count("\n")) == (1, [], 1)
    assert "SHEEP" in trouble
    assert "SHIP" in trouble


def test_without_torch_its_models_are_refused_in_one_line(samples, capsys, monkeypatch):
    monkeypatch.setattr("irvis.benchmarks.fusers.find_spec", lambda name: None)
    models = (["--model", "student.pt"], ["--model", "SHIP=weights.safetensors"], ["--teacher", "student"])
    for option in (*models, ["--device", "cuda"]):
        code, blocks, trouble = run(capsys, samples, *option)
        assert (code, blocks) == (1, [])
        assert trouble == "irvis evaluate: torch is not installed: pip install 'irvis[workstation]'\n"


def test_no_output_replaces_a_model_in_a_folder_named_after_an_option(samples, tmp_path, capsys):
    (tmp_path / "rate=0.1").mkdir()
    model = Path(shutil.copy(SHIPPED_MODEL, tmp_path / "rate=0.1" / "student.onnx"))
    code, _, trouble = run(capsys, samples, "--model", model, "--csv", model)
    assert (code, trouble) == (1, f"irvis evaluate: {model} would overwrite an input; give another name\n")
    assert model.read_bytes() == SHIPPED_MODEL.read_bytes()


@pytest.mark.parametrize("option", ["--csv", "--markdown", "--latex"])
def test_a_table_that_cannot_be_written_is_told_before_anything_is_measured(samples, tmp_path, capsys, option):
    (tmp_path / "file").write_text("")
    code, blocks, trouble = run(capsys, samples, option, tmp_path / "file" / "table")
    assert (code, blocks, trouble.count("\n")) == (1, [], 1)
    assert trouble.startswith("irvis evaluate: cannot write ")


def test_an_image_that_cannot_be_read_is_told_by_name_before_anything_is_measured(samples, tmp_path, capsys):
    bad = few_pairs(tmp_path / "bad", 3) / "vi" / "002.png"
    bad.write_bytes(bad.read_bytes()[:-100])
    code, blocks, trouble = run(capsys, samples, tmp_path / "bad", "--csv", tmp_path / "table.csv")
    assert (code, blocks, trouble.count("\n")) == (1, [], 1)
    assert str(bad) in trouble
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_a_model_is_tried_on_a_pair_of_another_size_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("irvis.benchmarks.evaluate.evaluate_fusion", None)
    save_maximum(tmp_path / "own.onnx")
    few_pairs(tmp_path / "few", 2)
    scene = make_scene("street", 96, 128)
    for half, image in zip(("ir", "vi"), scene):
        write_image(tmp_path / "few" / half / "000.png", image)
    code, blocks, trouble = run(capsys, tmp_path / "few", "--model", "student", "--model", tmp_path / "own.onnx")
    assert (code, blocks, trouble.count("\n")) == (1, [], 1)
    assert "frames are 48x48, own.onnx takes 96x128" in trouble


@pytest.mark.parametrize(
    ("infrared", "visible", "said"),
    [
        (np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8), "20x20 and 20x21"),
        (np.zeros((20, 20), np.uint16), np.zeros((20, 20), np.uint8), "Got uint16"),
        (np.zeros((15, 20), np.uint8), np.zeros((15, 20), np.uint8), "Got 15x20"),
    ],
    ids=["sizes differ", "16 bits", "too small"],
)
def test_pairs_that_cannot_be_measured_are_one_line(tmp_path, capsys, infrared, visible, said):
    write_image(tmp_path / "ir" / "odd.png", infrared)
    write_image(tmp_path / "vi" / "odd.png", visible)
    code, _, trouble = run(capsys, tmp_path)
    assert (code, trouble.count("\n")) == (1, 1)
    assert said in trouble


def test_16_bit_infrared_is_refused_by_name(tmp_path):
    write_image(tmp_path / "ir" / "deep.png", np.zeros((20, 20), np.uint16))
    write_image(tmp_path / "vi" / "deep.png", np.zeros((20, 20), np.uint8))
    with pytest.raises(FileError, match=r"8-bit infrared.*Got uint16 in .*deep\.png"):
        evaluate_pairs(pairs_of(tmp_path), mean)


@pytest.fixture
def fused_elsewhere(samples, tmp_path):
    """The mean of the inputs, as if another program had written it: in grey, and named in its own way."""
    for pair in pairs_of(samples):
        infrared, visible = read_infrared(pair.infrared), to_grey(read_visible(pair.visible))
        write_image(tmp_path / "mine" / f"{pair.name}_fused.png", mean(infrared, visible))
    return tmp_path / "mine"


def test_images_that_another_program_fused_have_a_row(samples, by_hand, fused_elsewhere, tmp_path, capsys):
    for pair in pairs_of(samples):
        colour = cv2.cvtColor(read_visible(fused_elsewhere / f"{pair.name}_fused.png"), cv2.COLOR_GRAY2BGR)
        write_image(tmp_path / "colour" / f"{pair.name}.png", colour)
    options = ("--fused", f"mine={fused_elsewhere}", "--fused", f"its colours={tmp_path / 'colour'}")
    code, blocks, trouble = run(capsys, samples, *options)
    assert (code, trouble) == (0, "")
    student, mine, colours, average = blocks[0][2:]
    assert student.startswith("student.onnx")
    assert mine.startswith("mine ")
    assert colours.startswith("its colours ")
    assert figures(mine) == figures(colours) == figures(average)
    assert figures(mine) == pytest.approx(list(by_hand[MEAN].values()), abs=6e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mine", "--fused must be NAME=FOLDER, each name once. Got mine"),
        ("student.onnx=mine", "two methods are called student.onnx; give the images of --fused another name"),
        ("mine=mine", "smoke_fused.png does not have the size of its pair. Got 16x16, the pair is 96x128"),
        ("mine=samples/ir/none", "folder not found"),
    ],
)
def test_fused_images_that_do_not_serve_are_one_line(samples, fused_elsewhere, monkeypatch, capsys, given, said):
    write_image(fused_elsewhere / "smoke_fused.png", np.zeros((16, 16), np.uint8))
    monkeypatch.chdir(fused_elsewhere.parent)
    code, blocks, trouble = run(capsys, samples, "--fused", given)
    assert (code, blocks, len(trouble.splitlines())) == (1, [], 1)
    assert said in trouble


def test_fused_images_are_of_one_data_set_and_no_output_replaces_one(samples, fused_elsewhere, capsys):
    given = ("--fused", f"mine={fused_elsewhere}")
    assert "--fused has the images of one data set. Got 2" in run(capsys, samples, samples, *given)[2]
    assert "would overwrite an input" in run(capsys, samples, *given, "--csv", fused_elsewhere / "smoke_fused.png")[2]
