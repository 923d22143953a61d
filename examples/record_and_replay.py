"""Record synchronised pairs from two cameras, at their full 16 bits, then fuse every frame of them into a video.

    python examples/record_and_replay.py recording "v4l2:///dev/video1?format=Y16" csi://0

The recording is two folders, recording/ir and recording/vi, which irvis fuse, run, calibrate and demo accept. To train
and to measure, its infrared must be converted to 8 bits.
"""

import itertools
import sys
from pathlib import Path

from irvis.runtime import FusionLoop
from irvis.runtime.cameras import PairedSources
from irvis.runtime.images import write_image
from irvis.runtime.video import video_writer


def record(folder, infrared, visible, pairs):
    if any(folder.glob("*/*")):
        sys.exit(f"{folder} holds a recording already, and two would be mixed; remove it, or give another folder")
    with PairedSources(infrared, visible) as sources:
        for number, pair in enumerate(itertools.islice(sources, pairs)):
            write_image(folder / "ir" / f"{number:06}.png", pair.infrared.image)
            write_image(folder / "vi" / f"{number:06}.png", pair.visible.image)
            print(f"pair {number}: infrared {pair.skew_ms:+.1f} ms after visible")
        skipped = sources.status()["skipped"]  # a disk slower than the cameras loses pairs, but never mismatches them
    print(f"recorded into {folder}; {skipped} pairs were skipped while the disk was busy")


def replay(folder, output, fps):
    with FusionLoop(str(folder / "ir"), str(folder / "vi"), realtime=False) as loop, video_writer(output, fps) as write:
        for frame in loop:
            write(frame.fused)
    print(f"fused into {output}")


def main(folder="recording", infrared="test://smoke?bits=16&fps=10", visible="test://smoke?fps=10", pairs=20):
    record(Path(folder), infrared, visible, int(pairs))
    replay(Path(folder), Path(folder) / "fused.mp4", fps=10.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
