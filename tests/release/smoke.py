"""Does an installation work? Run by its own Python, in an empty folder, with the files that the packages must have.

    python smoke.py FILES

FILES lists a path a line, such as ``irvis/runtime/fuser.py``. ``make test-dist`` makes it from what git tracks.
"""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

BIN = Path(sys.executable).parent


def run(*arguments: str) -> str:
    """Run an installed command; give its stdout, or end here with what it said."""
    done = subprocess.run([str(BIN / arguments[0]), *arguments[1:]], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} exited with {done.returncode}: {done.stderr}")
    return done.stdout


def main() -> None:
    """Check the files, the version, the commands and a fused frame."""
    expected = set(Path(sys.argv[1]).read_text().split())
    installed = {str(path) for path in metadata.files("irvis") or () if str(path).startswith("irvis/")}
    installed = {path for path in installed if "__pycache__" not in path}
    if installed != expected:
        sys.exit(f"missing: {sorted(expected - installed)}; not in git: {sorted(installed - expected)}")
    assert run("irvis", "--version").split() == ["irvis", metadata.version("irvis")]

    import cv2
    import numpy as np

    import irvis.runtime

    assert "site-packages" in irvis.runtime.__file__, irvis.runtime.__file__
    run("irvis", "samples", "scenes", "--size", "96x128")
    scene = sorted(path.name for path in Path("scenes/ir").iterdir())[0]
    run("irvis", "fuse", f"scenes/ir/{scene}", f"scenes/vi/{scene}", "-o", "fused.png")
    with irvis.runtime.Fuser() as fuser:
        fused = fuser(cv2.imread(f"scenes/ir/{scene}", cv2.IMREAD_GRAYSCALE), cv2.imread(f"scenes/vi/{scene}"))
    assert fused.shape == (96, 128, 3)
    assert np.array_equal(fused, cv2.imread("fused.png"))
    assert "p99" in run("bench.py", "--size", "48x64", "--iterations", "3", "--warmup", "1")
    assert "--int8" in run("build_engine.py", "--help")
    print(f"irvis {metadata.version('irvis')} on Python {sys.version.split()[0]}: {len(installed)} files, fuses")


if __name__ == "__main__":
    main()
