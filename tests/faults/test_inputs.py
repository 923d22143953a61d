"""Every command with every kind of bad file: one line, exit code 1, nothing written, nothing lost."""

import shutil

import pytest

# Where a command reads a file: {X.png} is the bad one, {D} a bad folder of pairs; the others are good. What is written
# goes to {out}.
FILES = [
    "fuse {X.png} {vi} -o {out}.png",
    "fuse {ir} {X.png} -o {out}.png",
    "fuse {X.avi} {video} -o {out}.avi",
    "fuse {ir} {vi} -o {out}.png --model {X.onnx}",
    "fuse {ir} {vi} -o {out}.png --model {X.engine}",
    "run --infrared {X.avi} --visible {video} -o {out}.avi",
    "run --infrared {video} --visible {video} -o {out}.avi --model {X.onnx}",
    "run --infrared {video} --visible {video} -o {out}.avi --registration {X.json}",
    "demo --infrared {X.png} --visible {vi} -o {out}",
    "demo --infrared {ir} --visible {vi} -o {out} --model {X.onnx}",
    "calibrate {X.png} {vi} -o {out}.json",
    "calibrate {ir} {vi} --points {X.csv} -o {out}.json",
    "calibrate {ir} {vi} --points {X.json} -o {out}.json",
    "bench.py --onnx {X.onnx} --json {out}.json",
    "bench.py --engine {X.engine} --json {out}.json",
    "bench.py compare {X.json} {X.json}",
    "bench.py table {X.json}",
    "bench.py plot {X.json} -o {out}.png",
    "build_engine.py {X.onnx} -o {out}.engine",
]
WORKSTATION = [
    "train {pairs} {few} --init {X.safetensors} -o {out}.safetensors",
    "train {pairs} {few} --init {X.pt} -o {out}.safetensors",
    "train {pairs} {few} --teacher SHIP={X.pth} -o {out}.safetensors",
    "train {pairs} {few} --teacher {X.onnx},fused=fused,feature=feature -o {out}.safetensors",
    "teachers --check SHIP={X.safetensors}",
    "plot {X.safetensors} -o {out}.png",
    "export {X.safetensors} -o {out}.onnx",
    "export {X.pth} -o {out}.onnx",
    "passes {X.onnx} {onnx} --json {out}.json",
    "passes {onnx} {X.onnx} --json {out}.json",
    "fp16 {X.onnx}",
    "int8 {X.onnx} --calibrate {pairs} --pairs {pairs} --size 32x32",
    "compare {X.safetensors} --json {out}.json",
    "compare --engine {X.onnx} --size 32x32 --json {out}.json",
    "roofline {X.onnx} --json {out}.json",
    "roofline {onnx} --size 32x32 --efficiency {X.json} --json {out}.json",
    "roofline {onnx} --size 32x32 --measured {X.json} --json {out}.json",
    "evaluate {pairs} --model {X.onnx} --csv {out}.csv",
    "evaluate {pairs} --model {X.safetensors} --csv {out}.csv",
    "evaluate {pairs} --model SHIP={X.pth} --csv {out}.csv",
    "evaluate {pairs} --teacher {X.onnx},fused=fused,feature=feature --csv {out}.csv",
    "experiment ablation {pairs} --teacher SHIP={X.pth} -o {out}",
    "visualize features {pairs} --student {X.safetensors} -o {out}.png",
    "visualize grid {pairs} --fused other={X.png} --student {checkpoint} -o {out}.png",
]
FOLDERS = [
    "fuse {D}/ir {D}/vi -o {out}",
    "run --infrared {D}/ir --visible {D}/vi -o {out}.avi --every-frame",
    "demo --pairs {D} -o {out}",
    "calibrate {D}/ir {D}/vi -o {out}.json",
    "bench.py --size 32x32 --iterations 1 --warmup 0 --pairs {D} --json {out}.json",
    "build_engine.py {onnx} --pairs {D} -o {out}.engine",
]
WORKSTATION_FOLDERS = [
    "train {D} {few} -o {out}.safetensors",
    "train {pairs} {few} --validation {D} -o {out}.safetensors",
    "export {checkpoint} --size 32x32 --pairs {D} -o {out}.onnx",
    "evaluate {D} --csv {out}.csv",
    "fp16 {onnx} --size 32x32 --pairs {D}",
    "int8 {onnx} --size 32x32 --calibrate {D} --pairs {pairs}",
    "experiment ablation {D} -o {out}",
    "visualize features {D} -o {out}.png",
    "visualize grid {D} -o {out}.png",
]

FEW = "--crop-side 16 --crops 4 --batch 2 --steps 1 --no-tensorboard"  # of training: a single small step


def missing(path, good):
    pass


def empty(path, good):
    path.write_bytes(b"")


def truncated(path, good):
    path.write_bytes(good[: len(good) // 2])


def noise(path, good):
    path.write_bytes(bytes((131 * number + 17) % 251 for number in range(4096)))


def folder(path, good):
    path.mkdir()


def huge(path, good):
    with path.open("wb") as stream:
        stream.write(good[:4096])
        stream.truncate(
            1 << (24 if path.suffix == ".avi" else 38)
        )  # sparse; OpenCV looks through a video for half a minute


def endless(path, good):
    path.symlink_to("/dev/zero")


def unreadable(path, good):
    path.symlink_to("/proc/self/mem")  # a regular file that gives an error when it is read, to root as well


def loop(path, good):
    path.symlink_to(path)


FAULTS = [missing, empty, truncated, noise, folder, huge, endless, unreadable, loop]


def filled(template, good, tmp_path):
    """Return the words of a template, with the good files in their places, and make the folder to write into."""
    (tmp_path / "out").mkdir()
    known = {
        "ir": good.infrared,
        "vi": good.visible,
        "video": good.files[".avi"],
        "pairs": good.folder,
        "onnx": good.files[".onnx"],
        "checkpoint": good.files[".safetensors"],
        "out": tmp_path / "out" / "made",
        "few": FEW,
    }
    for name, path in known.items():
        template = template.replace(f"{{{name}}}", str(path))
    return template.split()


def assert_one_line(code, errors, name, tmp_path):
    """Check that a command failed as promised, and wrote nothing."""
    assert code == 1, errors
    told = [line for line in errors if line.startswith((f"irvis {name}: ", f"{name}: ", f"{name} "))]
    assert len(told) == 1, errors
    assert list((tmp_path / "out").iterdir()) == []


def bad_file(template, fault, good, command, tmp_path):
    if template in WORKSTATION:
        pytest.importorskip("torch")
    suffix = template.partition("{X")[2].partition("}")[0]
    bad = tmp_path / f"bad{suffix}"
    sample = good.files.get(".safetensors" if suffix in (".pt", ".pth") else suffix, good.visible)
    fault(bad, sample.read_bytes())
    name, *arguments = filled(template, good, tmp_path)
    code, errors = command(name, *(argument.replace(f"{{X{suffix}}}", str(bad)) for argument in arguments))
    assert_one_line(code, errors, name, tmp_path)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("template", FILES + WORKSTATION, ids=str)
def test_a_bad_file(template, fault, good, command, tmp_path):
    bad_file(template, fault, good, command, tmp_path)


@pytest.mark.parametrize("fault", [missing, truncated], ids=lambda fault: fault.__name__)
def test_a_bad_file_for_peers(fault, good, command, tmp_path):
    """Apart from the others, for it counts the published networks first, which takes seconds."""
    pytest.importorskip("torch")
    bad_file("peers {X.safetensors} --json {out}.json", fault, good, command, tmp_path)


def no_folder(path):
    pass


def a_file(path):
    path.write_bytes(b"")


def an_empty_folder(path):
    (path / "ir").mkdir(parents=True)
    (path / "vi").mkdir()


def other_names(path):
    (path / "vi/street.png").rename(path / "vi/other.png")
    (path / "ir/street.png").rename(path / "ir/another.png")


def broken_images(path):
    for half in ("ir", "vi"):
        image = path / half / "street.png"
        image.write_bytes(image.read_bytes()[:300])


FOLDER_FAULTS = [no_folder, a_file, an_empty_folder, other_names, broken_images]


@pytest.mark.parametrize("fault", FOLDER_FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("template", FOLDERS + WORKSTATION_FOLDERS, ids=str)
def test_a_bad_folder(template, fault, good, command, tmp_path):
    if template in WORKSTATION_FOLDERS:
        pytest.importorskip("torch")
    pairs = tmp_path / "pairs"
    if fault in (other_names, broken_images):
        for half in (good.infrared, good.visible):
            (pairs / half.parent.name).mkdir(parents=True)
            shutil.copy(half, pairs / half.parent.name)
    fault(pairs)
    name, *arguments = filled(template, good, tmp_path)
    code, errors = command(name, *(argument.replace("{D}", str(pairs)) for argument in arguments))
    if name == "bench.py" and fault is broken_images:
        (tmp_path / "out/made.json").unlink()  # the latencies are kept, which are measured before
    assert_one_line(code, errors, name, tmp_path)
