import csv
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from irvis.runtime.cli import main
from irvis.runtime.images import read_image
from irvis.student import plot
from irvis.student.plot import POINTS, read_columns, smoothed


def write(path, columns):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))


@pytest.fixture
def run(tmp_path):
    """The tables of a run of 300 steps with three validations."""
    output = tmp_path / "s.safetensors"
    steps = np.arange(1, 301)
    losses = {"step": steps, "learning_rate": steps * 1e-6, "loss": 1 / steps, "task": 0.5 / steps}
    write(tmp_path / "s.safetensors.csv", losses)
    write(tmp_path / "s.safetensors.validation.csv", {"step": [100, 200, 300], "CC": [0.4, 0.5, 0.6]})
    return output


def test_a_run_is_drawn(run, tmp_path, capsys):
    output = tmp_path / "curve.png"
    assert main(["plot", str(run), "-o", str(output)]) == 0
    assert capsys.readouterr().out == f"wrote {output}\n"
    picture = read_image(output)
    assert picture.shape[1] > 1000
    assert picture.std() > 5


def test_runs_are_drawn_together_and_without_validation(run, tmp_path):
    other = tmp_path / "other.safetensors"
    write(tmp_path / "other.safetensors.csv", {"step": [1, 2], "loss": [2.0, 1.0]})
    assert main(["plot", str(run), str(other), "-o", str(tmp_path / "both.png")]) == 0


def test_runs_of_one_file_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    """And one that is given twice is drawn once."""
    from matplotlib.axes import Axes

    drawn = []
    original = Axes.plot

    def plot(axis, *given, **options):
        drawn.append(options["label"])
        return original(axis, *given, **options)

    monkeypatch.setattr(Axes, "plot", plot)
    for name in ("x/s.safetensors", "y/s.safetensors", "y/t.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / f"{name}.csv", {"step": [1, 2], "loss": [2.0, 1.0]})
    monkeypatch.chdir(tmp_path)
    runs = ["x/s.safetensors", "y/s.safetensors", "y/t.safetensors", "x/s.safetensors"]
    assert main(["plot", *runs, "-o", "both.png"]) == 0
    assert drawn == ["x/s.safetensors", "y/s.safetensors", "t.safetensors"]


def test_a_run_whose_name_begins_with_an_underscore_is_in_the_legend(run, tmp_path, monkeypatch):
    from irvis.student import plot

    told = []

    def save(figure, path, **options):
        told.extend(text.get_text().strip() for text in figure.axes[0].get_legend().get_texts())

    monkeypatch.setattr(plot, "save_figure", save)
    shutil.copy(tmp_path / "s.safetensors.csv", tmp_path / "_s.safetensors.csv")
    assert main(["plot", str(tmp_path / "_s.safetensors"), str(run), "-o", str(tmp_path / "both.png")]) == 0
    assert told == ["_s.safetensors", "s.safetensors"]


def test_a_loss_that_becomes_negative_is_drawn_on_a_linear_axis(tmp_path, monkeypatch):
    """As with --weighting uncertainty."""
    from irvis.student import plot

    scales = {}

    def save(figure, path, **options):
        scales.update({axis.get_title(): axis.get_yscale() for axis in figure.axes})

    monkeypatch.setattr(plot, "save_figure", save)
    write(tmp_path / "s.safetensors.csv", {"step": [1, 2, 3], "loss": [1.0, 0.5, -0.1], "task": [0.3, 0.2, 0.1]})
    write(tmp_path / "t.safetensors.csv", {"step": [1, 2], "loss": [1.0, 0.5], "task": [0.3, 0.2]})
    write(tmp_path / "t.safetensors.validation.csv", {"step": [2], "CC": [0.4]})
    assert main(["plot", *(str(tmp_path / f"{name}.safetensors") for name in "st"), "-o", str(tmp_path / "c.png")]) == 0
    assert [scales[name] for name in ("loss", "task", "CC (validation)")] == ["linear", "log", "linear"]


def test_a_single_validation_is_a_dot(run, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    markers = {}
    original = Axes.plot

    def plot(axis, *given, **options):
        markers[axis.get_title()] = options["marker"]
        return original(axis, *given, **options)

    monkeypatch.setattr(Axes, "plot", plot)
    write(tmp_path / "s.safetensors.validation.csv", {"step": [300], "CC": [0.4]})
    assert main(["plot", str(run), "-o", str(tmp_path / "curve.png")]) == 0
    assert markers == {"loss": "", "task": "", "CC (validation)": "."}


def test_smoothing_keeps_the_mean_and_the_ends():
    steps, values = np.arange(1, 1001), np.random.default_rng(0).random(1000)
    where, smooth = smoothed(steps, values)
    assert len(where) == len(smooth) == POINTS
    assert smooth.mean() == pytest.approx(values.mean())
    assert smoothed(steps[:3], values[:3])[1].tolist() == values[:3].tolist()


NO_TABLES = [None, "", "step\nx\n", "a,b\n1,2\n", "step,loss\n1\n", "step,loss\n1,2\n\0\0\n", "step\n" + "1" * 200_000]


@pytest.mark.parametrize("content", NO_TABLES)
def test_what_is_no_table_of_a_run_is_one_line(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "s.safetensors.csv").write_text(content)
    assert main(["plot", str(tmp_path / "s.safetensors"), "-o", str(tmp_path / "c.png")]) == 1
    assert "table of a training run" in capsys.readouterr().err
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize("ending", [".csv", ".validation.csv"])
def test_a_pipe_or_a_device_is_not_read(run, tmp_path, capsys, ending):
    table = tmp_path / f"s.safetensors{ending}"
    table.unlink()
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        make(table)
        assert main(["plot", str(run), "-o", str(tmp_path / "c.png")]) == 1
        assert "is not a regular file" in capsys.readouterr().err
        table.unlink()


@pytest.mark.parametrize("run", ["", ".", "/"])
def test_a_run_without_a_name_is_one_line(capsys, run):
    assert main(["plot", run]) == 1
    assert capsys.readouterr().err.startswith("irvis plot: no training run at ")


def test_a_table_without_losses_is_one_line(tmp_path, capsys):
    write(tmp_path / "s.safetensors.csv", {"step": [1, 2], "learning_rate": [0.1, 0.1]})
    assert main(["plot", str(tmp_path / "s.safetensors"), "-o", str(tmp_path / "c.png")]) == 1
    assert capsys.readouterr().err.startswith(f"irvis plot: no loss in {tmp_path / 's.safetensors.csv'}")


def test_a_run_whose_name_is_no_utf_8_is_drawn(tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.safetensors")
    write(tmp_path / f"{name}.csv", {"step": [1, 2], "loss": [2.0, 1.0]})
    assert main(["plot", str(tmp_path / name), "-o", str(tmp_path / "c.png")]) == 0


def test_a_format_that_cannot_be_drawn_is_one_line(run, tmp_path, capsys):
    assert main(["plot", str(run), "-o", str(tmp_path / "c.xyz")]) == 1
    assert "cannot draw into" in capsys.readouterr().err
    assert [path.suffix for path in tmp_path.iterdir()] == [".csv", ".csv"]


def test_columns_are_numbers_by_name(run):
    columns = read_columns(run.with_name(run.name + ".csv"))
    assert columns["loss"][1] == pytest.approx(0.5)


def test_a_run_has_one_colour_also_where_another_has_no_such_loss(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, *_, **__: drawn.append(figure))
    write(tmp_path / "a.csv", {"step": [1, 2], "loss": [2.0, 1.0]})
    write(tmp_path / "b.csv", {"step": [1, 2], "loss": [2.0, 1.0], "attention": [2.0, 1.0]})
    plot.draw([tmp_path / "a", tmp_path / "b"], tmp_path / "c.png")
    loss, attention = (axis.get_lines() for axis in drawn[0].axes[:2])
    assert [line.get_color() for line in attention] == [loss[1].get_color()] != [loss[0].get_color()]
