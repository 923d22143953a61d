from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from irvis.benchmarks.peers.quality import read_quality
from irvis.benchmarks.peers.tables import DEPLOY, STUDENT
from irvis.runtime.errors import FileError

CSV = """data_set,pairs,fused_by,kind,CC,PSNR,SCD,SSIM,EN
TNO/test,25,small.onnx,model,0.542,14.94,1.920,1.4,7
TNO/test,25,SHIP,model,0.480,13.45,1.549,1.3,7
TNO/test,25,SHIP,published,0.4804,13.4453,1.5489,1.2984,
MSRS/test,361,SHIP,model,0.6,16,1.6,1.4,6
"""


def test_quality_is_read_from_what_evaluate_wrote(tmp_path):
    path = tmp_path / "quality.csv"
    path.write_text(CSV)
    quality = read_quality(path, {STUDENT: Path("small.safetensors")})
    assert quality[:2] == ("TNO/test", 25)
    assert quality.of(STUDENT) == quality.of(DEPLOY) == {"CC": 0.542, "PSNR": 14.94, "SCD": 1.92, "SSIM": 1.4}
    assert quality.of("SHIP")["SCD"] == 1.549  # of this run, not the paper's
    assert quality.of("PFCFuse") == {}
    for content in ("", CSV.replace("25", "many"), CSV.replace("SCD", "X"), "a,b\n1,2\n"):
        path.write_text(content)
        with pytest.raises(FileError, match="not a data set, nor the CSV of irvis evaluate"):
            read_quality(path, {STUDENT: Path("small.safetensors")})
