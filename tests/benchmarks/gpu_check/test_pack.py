"""The shell script that packs for a machine without network, with a program that writes what irvis and pip would."""

import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import List

PACK = Path(__file__).parents[3] / "benchmarks/gpu_check/pack.sh"
PYTHON = """#!/bin/sh
case "$*" in
    *gpu_train*pack*) touch "$4" ;;
    *"cli export"*) touch "$7" ;;
    *probes*) touch "$3/probe.onnx" ;;
    *"pip install"*) mkdir "$7/pytest" ;;
esac
"""


def packed(tmp_path: Path, *kit: str, **variables: str) -> List[str]:
    for folder in ("TNO/test", "RoadScene/test", "MSRS/test", "MSRS/train/ir", "MSRS/train/vi"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "data" / folder / f"{number}.png").write_text("a picture")
    (tmp_path / "teachers").mkdir()
    (tmp_path / "teachers/SHIP.safetensors").write_text("weights")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PYTHON": "./python", "PART": "1M", **variables}
    command = [str(PACK), "parts", "data", "teachers", *kit]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE)
    parts = sorted((tmp_path / "parts").glob("part.*"))
    assert [part.name for part in parts[:2]] == ["part.00", "part.01"]
    with tarfile.open(fileobj=BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        return [name for name in archive.getnames() if name.count("/") < 3 or "train" in name]


def test_what_training_needs_comes_first_and_then_what_starts_it(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit/kit.part.aa").write_text("an interpreter")
    names = packed(tmp_path, "kit")
    start = names.index("tree/pyproject.toml")
    needed = ("tree/irvis/student", "tree/models/runs.txt", "tree/models/runs.json", "tree/models/crops.npz")
    assert {*needed, "tree/models/SHIP.safetensors"} <= set(names[:start])
    assert {"tree/data", "tree/tests", "tree/pytest", "tree/models/probe.onnx", "kit.part.aa"} <= set(names[start:])
    assert names[-1] == "kit.part.aa"
    assert len(names) == len(set(names))


def test_without_a_kit_every_third_pair_to_calibrate_on_is_packed(tmp_path: Path) -> None:
    names = packed(tmp_path)
    pairs = [f"tree/data/MSRS/train/{kind}/{number}.png" for kind in ("ir", "vi") for number in (0, 3)]
    assert sorted(name for name in names if "MSRS/train" in name and name.endswith(".png")) == pairs


def test_the_runs_to_train_need_no_file(tmp_path: Path) -> None:
    names = packed(tmp_path, RUNS="paper-SHIP")
    assert (tmp_path / "parts/tree/models/runs.txt").read_text() == "paper-SHIP\n"
    assert not [name for name in names if name.endswith(".json")]
    assert names.index("tree/models/crops.npz") < names.index("tree/pyproject.toml")
