import argparse
import csv
import shutil
import signal

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")
pytest.importorskip("thop")
pytest.importorskip("onnx")

from safetensors.torch import save_file

from irvis.benchmarks.evaluate import evaluate_pairs, mean
from irvis.benchmarks.experiments import quality
from irvis.benchmarks.experiments.methods import Method
from irvis.benchmarks.fusers import published_network, student
from irvis.benchmarks.published import METRICS
from irvis.runtime.cli import guarded
from irvis.runtime.pairs import pairs_of
from irvis.student.checkpoint import save_student
from irvis.student.network import Student, StudentConfig
from irvis.student.teachers.published import network_class

NETWORK = "MMDRFuseStudent"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, samples):
    """A student, one that was taught by a published network, that network, and two data sets: TNO/test and other."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("quality")
    save_student(folder / "alone.safetensors", Student(StudentConfig(8, 2, 1, 1)))
    save_student(folder / "taught.safetensors", Student(StudentConfig(8, 2, 1, 1)), {"teachers": {NETWORK: "ab"}})
    (folder / "weights").mkdir()
    save_file(network_class(NETWORK)().state_dict(), folder / "weights" / "MMDRFuse_student.safetensors")
    shutil.copytree(samples, folder / "TNO" / "test")
    pair = pairs_of(samples)[0]
    for half, path in (("ir", pair.infrared), ("vi", pair.visible)):
        (folder / "other" / half).mkdir(parents=True)
        shutil.copy(path, folder / "other" / half / path.name)
    return folder


def run(folder, output, *options, students=("taught",), sets=("TNO/test", "other")):
    """Run ``irvis experiment quality``; give its exit code."""
    parser = argparse.ArgumentParser()
    quality.add_arguments(parser)
    given = [part for name in students for part in ("--student", folder / f"{name}.safetensors")]
    argv = [*(folder / name for name in sets), *given, "--weights", folder / "weights", "-o", folder / output, *options]
    return guarded("irvis experiment", lambda: quality.main(parser.parse_args([*map(str, argv)])))


@pytest.fixture(scope="module")
def whole(folder):
    """The folder of a command that nothing stopped."""
    assert run(folder, "whole") == 0
    return folder / "whole"


@pytest.fixture
def calls(monkeypatch):
    """Count what is fused, by method."""
    counts, original = {}, Method.open

    def counted(method):
        fuse = original(method)

        def count(infrared, visible):
            counts[method.name] = counts.get(method.name, 0) + 1
            return fuse(infrared, visible)

        return count

    monkeypatch.setattr(Method, "open", counted)
    return counts


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_method_is_measured_on_every_data_set(folder, whole):
    fusers = {
        NETWORK: published_network(NETWORK, folder / "weights" / "MMDRFuse_student.safetensors").fuse,
        "taught": student(folder / "taught.safetensors"),
        "mean of the inputs": mean,
    }
    for name, slug in (("TNO/test", "TNO-test"), ("other", f"{folder.name}-other")):
        rows = {
            row["fused_by"]: row
            for row in read_csv(whole / f"quality-{slug}.csv")
            if row["kind"] in ("model", "baseline")
        }
        assert list(rows) == list(fusers)
        for by, fuse in fusers.items():
            expected = evaluate_pairs(pairs_of(folder / name), fuse)
            assert {metric: float(rows[by][metric]) for metric in METRICS} == pytest.approx(
                {metric: expected[metric] for metric in METRICS}, rel=1e-12
            )
    slugs = ["TNO-test", f"{folder.name}-other", "students"]
    files = [f"quality-{slug}.{ending}" for slug in slugs for ending in ("md", "csv", "tex", "json")]
    assert {path.name for path in whole.iterdir()} == {*files, "quality-pairs.csv", "pairs"}


def test_every_pair_has_its_row(folder, whole):
    rows = read_csv(whole / "quality-pairs.csv")
    names = [pair.name for pair in pairs_of(folder / "TNO" / "test")]
    assert [row["pair"] for row in rows if (row["data_set"], row["method"]) == ("TNO/test", "taught")] == names
    assert len(rows) == 3 * (len(names) + 1)
    found = read_csv(whole / "quality-TNO-test.csv")[1]
    values = [float(row["SCD"]) for row in rows if (row["data_set"], row["method"]) == ("TNO/test", "taught")]
    assert float(found["SCD"]) == pytest.approx(np.mean(values), rel=1e-12)


def test_what_is_there_is_not_done_again(folder, whole, calls):
    before = contents(whole)
    for path in whole.glob("quality-*"):
        path.unlink()
    assert run(folder, "whole") == 0
    assert calls == {}
    assert contents(whole) == before


def test_another_method_or_pair_is_measured_alone(folder, whole, calls):
    shutil.copytree(whole, folder / "more")
    assert run(folder, "more", students=("taught", "alone")) == 0
    assert calls == {"alone": 4}
    calls.clear()
    assert run(folder, "some", "--limit", "2", sets=("TNO/test",)) == 0
    table = folder / "some" / "quality-TNO-test.md"
    limited = table.read_text(encoding="utf-8")
    assert "means over 2 of the 3 pairs of TNO/test, evenly spread." in limited
    first, _, last = (pair.name for pair in pairs_of(folder / "TNO" / "test"))
    assert {row["pair"] for row in read_csv(folder / "some" / "quality-pairs.csv")} == {first, last}
    assert run(folder, "some", sets=("TNO/test",)) == 0
    assert "means over 3 pairs of TNO/test." in table.read_text(encoding="utf-8")
    assert run(folder, "some", "--limit", "2", sets=("TNO/test",)) == 0
    assert table.read_text(encoding="utf-8") == limited
    assert calls == {NETWORK: 3, "taught": 3}


def test_a_file_of_the_same_name_is_another_method(folder, calls):
    assert run(folder, "digest", "--methods", "alone", students=("alone",), sets=("other",)) == 0
    path = folder / "alone.safetensors"
    kept = path.read_bytes()
    path.write_bytes((folder / "taught.safetensors").read_bytes())
    assert run(folder, "digest", "--methods", "alone", students=("alone",), sets=("other",)) == 0
    path.write_bytes(kept)
    assert calls == {"alone": 2}


def test_stopped_it_goes_on_to_the_same(folder, whole, monkeypatch, capsys):
    original, fused = Method.open, []

    def stopping(method):
        fuse = original(method)

        def stop(infrared, visible):
            fused.append(method.name)
            if len(fused) == 6:  # the second pair of the second method
                signal.raise_signal(signal.SIGINT)
            return fuse(infrared, visible)

        return stop

    monkeypatch.setattr(Method, "open", stopping)
    assert run(folder, "stopped") == 130
    assert "stopped; run the same command again" in capsys.readouterr().out
    assert "Not measured yet: taught" in (folder / "stopped" / "quality-TNO-test.md").read_text(encoding="utf-8")
    assert run(folder, "stopped") == 0
    assert fused == [NETWORK] * 4 + ["taught"] * 5
    assert contents(folder / "stopped") == contents(whole)


def test_what_cannot_be_run_is_left_out_with_its_reason_and_the_others_go_on(folder, monkeypatch, capsys):
    original = Method.open

    def failing(method):
        def fail(infrared, visible):
            raise RuntimeError("DefaultCPUAllocator:\ncan't allocate memory")

        return fail if method.name == NETWORK else original(method)

    monkeypatch.setattr(Method, "open", failing)
    assert run(folder, "failing") == 0
    assert f"left out: {NETWORK} on TNO/test: DefaultCPUAllocator: can't" in capsys.readouterr().out
    text = (folder / "failing" / "quality-TNO-test.md").read_text(encoding="utf-8")
    assert f"Could not be run: {NETWORK} (DefaultCPUAllocator: can't allocate memory)." in text
    assert f"| {NETWORK} |  |  |  |  |" in text
    assert [row["fused_by"] for row in read_csv(folder / "failing" / "quality-TNO-test.csv")][:2] == [
        "taught",
        "mean of the inputs",
    ]
    assert not (folder / "failing" / "quality-students.md").exists()


def test_figures_that_cannot_be_saved_are_one_line(folder, monkeypatch, capsys):
    def fail(path, document):
        raise quality.FileError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(quality, "write_json", fail)
    assert run(folder, "full", sets=("other",)) == 1
    assert capsys.readouterr().err.endswith("No space left on device\n")


def test_quick_makes_all_files_and_calls_them_a_smoke_run(folder, whole, calls):
    shutil.copytree(whole / "pairs", folder / "quick" / "pairs")  # the figures of whole images are not taken
    assert run(folder, "quick", "--quick") == 0
    assert calls == {NETWORK: 2, "taught": 2}
    assert {path.name for path in (folder / "quick").iterdir()} == {path.name for path in whole.iterdir()}
    for name in ("quality-TNO-test.md", "quality-TNO-test.tex", "quality-students.md"):
        text = (folder / "quick" / name).read_text(encoding="utf-8")
        assert "1 of the 3 pairs of TNO/test, evenly spread, cut to 128x128" in text
        assert "smoke run" in text


def test_quick_does_not_replace_the_tables_of_a_whole_run(folder, whole, calls, capsys):
    before = contents(whole)
    assert run(folder, "whole", "--quick") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("is of a whole run, and --quick would replace it; give another --output")
    assert calls == {}
    assert contents(whole) == before


@pytest.mark.parametrize(
    ("options", "sets", "said"),
    [
        (["--limit", "0"], ["TNO/test"], "--limit must be 1 or more. Got 0"),
        ([], ["nowhere"], "folder not found"),
        ([], ["other", "other"], "two data sets are called"),
        (["--methods", "SHIP"], ["other"], "no method is called SHIP"),
        (["-o", "taught.safetensors"], ["other"], "cannot write"),
    ],
)
def test_wrong_options_are_one_line(folder, capsys, monkeypatch, options, sets, said):
    monkeypatch.chdir(folder)
    assert run(folder, "wrong", *options, sets=sets) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": {"CC": 1}}'])
def test_figures_of_something_else_are_refused(tmp_path, content):
    (tmp_path / "kept.json").write_bytes(content)
    with pytest.raises(quality.FileError, match=r"not figures of irvis experiment quality: .*kept\.json; remove it"):
        quality.Kept(tmp_path / "kept.json")
