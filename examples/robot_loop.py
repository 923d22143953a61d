"""A robot's loop: two cameras in, fused frames out. Without arguments it runs on a generated street, with no camera.

python examples/robot_loop.py "v4l2:///dev/video1?format=Y16" csi://0 student.engine registration.json
"""

import sys

from irvis.runtime import FusionLoop


def main(infrared="test://street", visible="test://street", model=None, registration=None, frames=30):
    with FusionLoop(infrared, visible, model, registration=registration, deadline_ms=33) as loop:
        for frame in loop:
            brightness = frame.fused.mean()  # your robot uses frame.fused here, uint8 BGR (H, W, 3)
            print(f"frame {frame.number}: {frame.latency_ms:.1f} ms after its capture, mean level {brightness:.1f}")
            if frame.number + 1 == frames:
                break
        status = loop.status()
    missed, fused, p99_ms = (status[name] for name in ("missed_deadlines", "fused", "latency_p99_ms"))
    if fused:
        print(f"p99 {p99_ms:.1f} ms, {missed} of {fused} past the deadline")


if __name__ == "__main__":
    main(*sys.argv[1:])
