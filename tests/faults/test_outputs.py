"""Every command that writes, where it cannot: one line, exit code 1, no part of a file, and what was there is kept."""

import contextlib
import os
import re
import shutil
import subprocess

import pytest

from irvis.runtime.images import read_image, write_image
from irvis.runtime.samples import make_scene

# {O.png} is what cannot be written.
OUTPUTS = [
    "fuse {ir} {vi} -o {O.png}",
    "fuse {video} {video} -o {O.avi}",
    "run --infrared {video} --visible {video} --every-frame -o {O.avi}",
    "run --infrared {video} --visible {video} --every-frame --json {O.json}",
    "samples {O} --size 32x32",
    "demo --infrared {ir} --visible {vi} -o {O}",
    "calibrate {ir} {vi} --points {points} -o {O.json}",
    "bench.py --size 32x32 --iterations 1 --warmup 0 --threads 1 --json {O.json}",
    "build_engine.py {onnx} -o {O.engine}",
]
WORKSTATION = [
    "train {pairs} --crop-side 16 --crops 4 --batch 2 --steps 1 --no-tensorboard -o {O.safetensors}",
    "export {checkpoint} --size 32x32 -o {O.onnx}",
    "passes {onnx} {onnx} --size 32x32 --json {O.json}",
    "roofline {onnx} --size 32x32 --json {O.json}",
    "evaluate {pairs} --csv {O.csv}",
]
TEMPLATES = pytest.mark.parametrize("template", OUTPUTS + WORKSTATION, ids=str)


def fails(template, path, good, command):
    """Run a template that writes to ``path`` and whatever suffix it wants; check that it fails in one line."""
    if template in WORKSTATION:
        pytest.importorskip("torch")
    suffix = template.partition("{O")[2].partition("}")[0]
    known = {
        "ir": good.infrared,
        "vi": good.visible,
        "video": good.files[".avi"],
        "points": good.files[".csv"],
        "pairs": good.folder,
        "onnx": good.files[".onnx"],
        "checkpoint": good.files[".safetensors"],
        f"O{suffix}": f"{path}{suffix}",
    }
    for word, value in known.items():
        template = template.replace(f"{{{word}}}", str(value))
    name, *arguments = template.split()
    code, errors = command(name, *arguments)
    assert code == 1, errors
    assert not any("Traceback" in line for line in errors), errors
    assert [line for line in errors if line.startswith((f"irvis {name}: ", f"{name}: "))], errors


@TEMPLATES
def test_below_a_file(template, good, command, tmp_path):
    (tmp_path / "file").write_bytes(b"here")
    fails(template, tmp_path / "file" / "made", good, command)
    assert (tmp_path / "file").read_bytes() == b"here"


@TEMPLATES
def test_a_name_that_is_too_long(template, good, command, tmp_path):
    fails(template, tmp_path / ("n" * 300), good, command)
    fails(template, tmp_path / "/".join(["folder"] * 700), good, command)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# {KIND} is a copy of a good file, which must stay; {made.KIND} is not there, and must not be made.
COLLISIONS = {
    "run --infrared {.avi} --visible test:// -o {.avi}": "would overwrite an input",
    "run --infrared test:// --visible file://{.avi}?fps=10 -o {.avi}": "would overwrite an input",
    "run --infrared test:// --visible test:// --registration {.json} --json {.json}": "would overwrite an input",
    "run --infrared test:// --visible test:// --model {.onnx} --json {.onnx}": "would overwrite an input",
    "run --infrared test:// --visible test:// --model a.engine --json a.engine.json": "would overwrite an input",
    "run --infrared test:// --visible test:// -o {made.avi} --json {made.avi}": "two outputs",
    "run --infrared {ir} --visible test:// --json {ir}/street.png": "would overwrite an input",
    "fuse {x_side_by_side.png} {.png} -o {x.png} --side-by-side": "would overwrite an input",
    "fuse {x_side_by_side.avi} {.avi} -o {x.avi} --side-by-side": "would overwrite an input",
    "fuse {ir} {vi} -o {ir} --side-by-side": "would overwrite an input",
    "fuse {side_by_side} {vi} -o {} --side-by-side": "would overwrite an input",
    "calibrate {.png} {.png} --points {.csv} -o {.json} --preview {.png}": "would overwrite an input",
    "calibrate {ir} {vi} -o {made.json} --preview {ir}/street.png": "would overwrite an input",
    "calibrate folder://{ir} test:// -o {made.json} --preview {ir}/street.png": "would overwrite an input",
    "demo --infrared {fused} --visible {vi} -o {}": "would overwrite an input",
    "bench.py --onnx {.onnx} --json {.onnx}": "would overwrite an input",
    "bench.py --engine a.engine --json a.engine.json": "would overwrite an input",
    "bench.py --onnx {.onnx} --pairs {} --reference {.onnx} --plot {.onnx}": "would overwrite an input",
    "bench.py --onnx {.onnx} --pairs {} --plot {ir}/street.png": "would overwrite an input",
    "bench.py --json {made.x} --markdown {made.x}": "two outputs",
    "bench.py plot {.json} -o {.json}": "would overwrite an input",
    "build_engine.py {.onnx} -o {.onnx}": "would overwrite an input",
    "build_engine.py {.onnx} -o {made.engine} --timing-cache {made.engine.json}": "two outputs",
    "build_engine.py {.onnx} -o {made.engine} --pairs {} --timing-cache {ir}/street.png": "would overwrite an input",
    "doctor a.engine --json a.engine.json": "would overwrite an input",
}
WORKSTATION_COLLISIONS = {
    "export {.safetensors} -o {.safetensors}": "would overwrite an input",
    "export {.safetensors} -o {.json}": "an ONNX is a .onnx file",
    "evaluate {} --csv {made.x} --markdown {made.x}": "two outputs",
    "passes {.onnx} {.onnx} --json {.onnx}": "would overwrite an input",
    "train {} --init {.safetensors} -o {.safetensors}": "would overwrite an input",
    "train {} --teacher {.safetensors} -o {.safetensors}": "would overwrite an input",
    "train {} --teacher SHIP={.safetensors} -o {.safetensors}": "would overwrite an input",
    "train {} --teacher {.onnx},fused=a,feature=b -o {.onnx}": "would overwrite an input",
    "train {} --downstream boxes={.safetensors} -o {.safetensors}": "would overwrite an input",
    "train {} -o {ir}/street.png": "would overwrite an input",
    "train {} --validation {fused} -o {fused}/1_vi.png": "would overwrite an input",
    "plot {.json} -o {.json}": "would overwrite an input",
    "plot {made} -o {made.csv}": "would overwrite an input",
    "compare {.safetensors} --json {.safetensors}": "would overwrite an input",
    "compare --engine {.onnx} --json {.onnx}": "would overwrite an input",
    "complexity --json {made.x} --csv {made.x}": "two outputs",
    "peers {.safetensors} --json {.safetensors}": "would overwrite an input",
    "peers --student {.safetensors} --json {.safetensors}": "would overwrite an input",
    "peers --weights {weights} --json {weights}/SHIP.pth": "would overwrite an input",
    "peers --engine student={.onnx} --json {.onnx}": "would overwrite an input",
    "peers --quality {.csv} --markdown {.csv}": "would overwrite an input",
    "peers --quality {} --plot {ir}/street.png": "would overwrite an input",
    "experiment ablation {} --teacher SHIP={.safetensors} --plan {.safetensors}": "would overwrite an input",
    "experiment compensation {} --test {} --teacher SHIP={.safetensors} -o {ir}": "would overwrite an input",
    "experiment complexity --report {complexity.csv} -o {}": "would overwrite an input",
    "experiment complexity --quick --report A={peers-quick.json} -o {}": "would overwrite an input",
    "visualize grid {} -o {ir}/street.png": "would overwrite an input",
    "visualize grid {} --pair street --fused a={.png} -o {.png}": "would overwrite an input",
    "visualize grid {} --pair street --fused a={fused} -o {fused}/street.png": "would overwrite an input",
    "visualize features {} -o {vi}/street.png": "would overwrite an input",
    "benchmarks.rewrites {.safetensors} --markdown {.safetensors}": "would overwrite an input",
    "benchmarks.registration {} --json {ir}/street.png": "would overwrite an input",
    "benchmarks.soak plot {.csv} -o {.csv}": "would overwrite an input",
    "benchmarks.train_speed {} --teacher SHIP={.safetensors} --json {.safetensors}": "would overwrite an input",
    "benchmarks.train_speed {} --teacher SHIP={.safetensors} --json {ir}/street.png": "would overwrite an input",
    "benchmarks.gpu_train pack {ir}/street.png {}": "would overwrite an input",
    "benchmarks.gpu_train run {progress.json} {}": "would overwrite an input",
    "benchmarks.gpu_train run {made.npz} {} --runs {progress.json}": "would overwrite an input",
    "benchmarks.gpu_train run {made.npz} {} --teachers {weights}/.. --runs {runs.json}": "would overwrite an input",
    "benchmarks.peers.export SHIP={SHIP.onnx} -o {}": "would overwrite an input",
    "roofline {.onnx} --efficiency {.json} --json {.json}": "would overwrite an input",
    "evaluate {} --csv {ir}/street.png": "would overwrite an input",
    "roofline {.onnx} --json {.onnx}": "would overwrite an input",
    "roofline {.onnx} --measured {.json} --fit {.json}": "would overwrite an input",
    "evaluate {} --model {.onnx} --csv {.onnx}": "would overwrite an input",
    "evaluate {} --teacher {.onnx},fused=a,feature=b --csv {.onnx}": "would overwrite an input",
}


@pytest.mark.parametrize(("template", "said"), {**COLLISIONS, **WORKSTATION_COLLISIONS}.items())
def test_an_output_that_is_an_input_or_another_output(template, said, good, command, tmp_path, monkeypatch):
    if template in WORKSTATION_COLLISIONS:
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    for half in ("ir", "vi", "side_by_side", "fused"):
        (tmp_path / half).mkdir()
        for name in ("street", "compensation"):
            shutil.copy(good.infrared, tmp_path / half / f"{name}.png")
    for name in ("1_ir", "1_vi"):
        shutil.copy(good.infrared, tmp_path / "fused" / f"{name}.png")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "SHIP.pth").write_bytes(b"weights")
    for name in ("runs", "progress"):
        (tmp_path / f"{name}.json").write_text('[{"name": "SHIP", "teachers": ["SHIP"]}]')
    for suffix, path in good.files.items():
        for name in (f"good{suffix}", f"x_side_by_side{suffix}"):
            shutil.copy(path, tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    words = re.sub(r"{(\.?)([^}]*)}", lambda found: f"./good.{found[2]}" if found[1] else f"./{found[2]}", template)
    code, errors = command(*words.split())
    assert (code, len(errors)) == (1, 1), errors
    assert said in errors[0]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@TEMPLATES
def test_a_full_disk(template, good, command, mount):
    disk = mount("size=1m")
    with contextlib.suppress(OSError), (disk / "older").open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass
    size = (disk / "older").stat().st_size
    fails(template, disk / "made", good, command)
    assert files(disk) == ["older"]
    assert (disk / "older").stat().st_size == size


@TEMPLATES
def test_a_read_only_disk(template, good, command, mount):
    disk = mount("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    fails(template, disk / "made", good, command)


NAMES = {
    "far from ASCII": "日本 ñ 🔥",
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "a line break": "a\nb",
    "a dash first": "-o",
    "as long as Linux takes": "n" * 240,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_odd_names_work(name, good, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(f"./{name}.png", read_image(good.infrared))
    assert command("fuse", f"./{name}.png", good.visible, "-o", f"./{name}/{name}.png") == (0, [])
    assert read_image(tmp_path / name / f"{name}.png").shape == (48, 64, 3)
    assert (
        command("calibrate", f"./{name}.png", good.visible, "--points", good.files[".csv"], "-o", f"./{name}.json")[0]
        == 0
    )
    code, errors = command(
        "run", "--infrared", good.files[".avi"], "--visible", good.files[".avi"], "--every-frame", "-o", f"./{name}.avi"
    )
    if name == NAMES["not UTF-8"]:
        assert code == 1
        assert "only by names in UTF-8" in errors[0]
    else:
        assert code == 0
        assert (tmp_path / f"{name}.avi").exists()


def test_files_that_vanish_while_a_folder_is_fused(command, tmp_path, monkeypatch):
    from irvis.runtime import fuse

    infrared, visible = make_scene("street", 48, 64)
    for number in range(4):
        write_image(tmp_path / f"ir/{number}.png", infrared)
        write_image(tmp_path / f"vi/{number}.png", visible)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/1.png").write_bytes(b"older")

    def write_and_remove(path, image):
        write_image(path, image)
        (tmp_path / "ir/1.png").unlink(missing_ok=True)
        (tmp_path / "vi/2.png").unlink(missing_ok=True)

    monkeypatch.setattr(fuse, "write_image", write_and_remove)
    code, errors = command("fuse", tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out")
    assert code == 1
    assert [line.split(" not found")[0] for line in errors] == [
        "irvis fuse: 1: infrared image",
        "irvis fuse: 2: visible image",
    ]
    assert (tmp_path / "out/1.png").read_bytes() == b"older"
    assert files(tmp_path / "out") == ["0.png", "1.png", "3.png"]
