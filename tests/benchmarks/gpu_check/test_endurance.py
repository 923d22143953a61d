from pathlib import Path

import pytest

from irvis.benchmarks.gpu_check import endurance
from irvis.benchmarks.gpu_check.endurance import check_runtime
from irvis.runtime.errors import IrvisError


def test_without_an_engine_it_says_which_to_build(tmp_path: Path) -> None:
    with pytest.raises(IrvisError, match="build one of deploy frames FP16, deploy planes FP16"):
        check_runtime(tmp_path)


def test_bench_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(IrvisError, match=r"bench\.py ended with 1: .*none\.engine"):
        endurance._bench(tmp_path / "none.engine")
