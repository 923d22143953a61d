import subprocess
import sys

import cv2
import numpy as np
import pytest

from irvis.runtime.cli import main
from irvis.runtime.frames import to_grey
from irvis.runtime.fuser import Fuser
from irvis.runtime.images import read_image, write_image
from irvis.runtime.registration import Registration
from irvis.runtime.samples import SCENES, write_samples

SIZE = (48, 64)


@pytest.fixture
def scenes(tmp_path):
    write_samples(tmp_path, *SIZE)
    return tmp_path


def run(capsys, *arguments):
    """Return the exit code and the lines on stderr."""
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err.splitlines()


def write_video(path, count, size=SIZE, fps=10.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, size[::-1])
    for level in range(count):
        writer.write(np.full((*size, 3), 40 + 20 * level, np.uint8))
    writer.release()
    return path


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            return frames
        frames.append(frame)


def test_two_files_give_what_the_fuser_gives(scenes, capsys):
    infrared, visible, output = scenes / "ir/street.png", scenes / "vi/street.png", scenes / "out/fused.png"
    assert run(capsys, "fuse", infrared, visible, "-o", output, "--side-by-side") == (0, [])
    with Fuser() as fuser:
        np.testing.assert_array_equal(read_image(output), fuser(read_image(infrared), read_image(visible)))
    panel = read_image(scenes / "out/fused_side_by_side.png")
    assert panel.shape[1] >= 3 * SIZE[1]
    np.testing.assert_array_equal(panel[-SIZE[0] :, -SIZE[1] :], read_image(output))


@pytest.mark.parametrize("is_there", [True, False])
def test_output_may_be_a_folder(scenes, capsys, is_there):
    if is_there:
        (scenes / "out").mkdir()
    assert run(capsys, "fuse", scenes / "ir/glare.png", scenes / "vi/glare.png", "-o", scenes / "out")[0] == 0
    assert (scenes / "out/glare.png").exists()


def test_frames_are_resized_for_a_model_of_another_size_where_that_is_asked_for(scenes, small_model, capsys):
    pair = scenes / "ir/street.png", scenes / "vi/street.png"
    command = ["fuse", *pair, "--model", small_model, "-o", scenes / "o.png"]
    code, (error,) = run(capsys, *command)
    assert code == 1
    assert "frames are 48x64, small.onnx takes 24x32" in error
    assert run(capsys, *command, "--resize") == (0, [])
    assert read_image(scenes / "o.png").shape == (*SIZE, 3)


def test_folders_give_a_png_a_pair(scenes, capsys):
    code, _ = run(capsys, "fuse", scenes / "ir", scenes / "vi", "-o", scenes / "out", "--side-by-side")
    assert code == 0
    names = sorted(f"{name}.png" for name in SCENES)
    assert sorted(path.name for path in (scenes / "out").glob("*.png")) == names
    assert sorted(path.name for path in (scenes / "out/side_by_side").iterdir()) == names


def test_a_bad_pair_costs_one_line_and_the_rest_goes_on(scenes, capsys):
    (scenes / "ir/street.png").write_bytes(b"no image")
    write_image(scenes / "vi/smoke.png", np.zeros((50, 64, 3), np.uint8))
    code, errors = run(capsys, "fuse", scenes / "ir", scenes / "vi", "-o", scenes / "out")
    assert code == 1
    assert [path.name for path in (scenes / "out").iterdir()] == ["glare.png"]
    lines = [line for line in errors if line.startswith("irvis fuse:")]
    assert len(lines) == 2
    assert "smoke: infrared and visible differ in size: 48x64 and 50x64" in lines[0]
    assert "street: infrared image is not an image" in lines[1]


def test_what_a_terminal_would_interpret_in_a_name_is_escaped(scenes, capsys, caplog):
    name = "a\nb\x1b[2J"
    (scenes / f"ir/{name}.png").write_bytes(b"no image")
    (scenes / f"vi/{name}.png").write_bytes(b"no image")
    (scenes / f"ir/{name}, alone.png").write_bytes(b"no image")
    code, errors = run(capsys, "fuse", scenes / "ir", scenes / "vi", "-o", scenes / "out")
    assert code == 1
    assert [line.split(": infrared")[0] for line in errors] == [r"irvis fuse: a\nb\x1b[2J"]
    assert caplog.messages[0].endswith(r"a\nb\x1b[2J, alone.png")


def test_files_without_a_partner_are_counted_in_one_line(scenes):
    (scenes / "vi/street.png").unlink()
    command = [sys.executable, "-m", "irvis.runtime.cli", "fuse", scenes / "ir", scenes / "vi", "-o", scenes / "out"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert done.stdout == f"fused 2 of 2 pairs into {scenes / 'out'}\n"
    assert done.stderr == (
        "irvis.pairs: 1 infrared and 0 visible images have no partner and are left out; "
        f"the first is {scenes / 'ir' / 'street.png'}\n"
    )


def test_videos_are_fused_to_the_end_of_the_shorter(tmp_path, capsys):
    infrared, visible = write_video(tmp_path / "ir.avi", 5), write_video(tmp_path / "vi.avi", 4)
    output = tmp_path / "fused.avi"
    code, _ = run(capsys, "fuse", infrared, visible, "-o", output, "--side-by-side")
    assert code == 0
    frames = frames_of(output)
    assert len(frames) == 4
    with Fuser() as fuser:
        wanted = fuser(to_grey(frames_of(infrared)[2]), frames_of(visible)[2])
    assert abs(frames[2].astype(int) - wanted).mean() < 3  # the codec is lossy
    assert len(frames_of(tmp_path / "fused_side_by_side.avi")) == 4


def test_a_video_without_a_name_is_one_line(tmp_path, capsys):
    video = write_video(tmp_path / "a.avi", 2)
    arguments = "fuse", video, video, "-o", "", "--side-by-side"  # as of a shell's variable that is not set
    assert run(capsys, *arguments) == (1, ["irvis fuse: cannot write .: it is a folder"])


def test_videos_of_which_no_frame_can_be_read_are_a_failure(tmp_path, capsys, cut_avi):
    halves = [cut_avi(write_video(tmp_path / f"{name}.avi", 5), 0) for name in "ab"]
    code, errors = run(capsys, "fuse", *halves, "-o", tmp_path / "fused.avi")
    assert code == 1
    assert "no frame could be read from both" in errors[-1]
    assert not (tmp_path / "fused.avi").exists()


def test_a_video_that_is_cut_off_is_fused_so_far_and_told(tmp_path, capsys, cut_avi):
    whole, half = write_video(tmp_path / "ir.avi", 10), cut_avi(write_video(tmp_path / "vi.avi", 10), 4)
    for pair in ((whole, half), (half, whole)):
        output = tmp_path / "fused.avi"
        code, errors = run(capsys, "fuse", *pair, "-o", output)
        errors = [line for line in errors if line.startswith("irvis fuse:")]
        assert (code, len(errors)) == (1, 1)
        assert "vi.avi ends after 4 of its 10 frames" in errors[0]
        assert len(frames_of(output)) == 4


def test_a_video_that_is_cut_off_behind_the_end_of_the_other_is_no_failure(tmp_path, capsys, cut_avi):
    short, half = write_video(tmp_path / "ir.avi", 2), cut_avi(write_video(tmp_path / "vi.avi", 10), 4)
    assert run(capsys, "fuse", short, half, "-o", tmp_path / "fused.avi")[0] == 0


def test_sixteen_bit_infrared_files_are_scaled(scenes, capsys):
    counts = read_image(scenes / "ir/street.png").astype(np.uint16) * 3 + 7000
    cv2.imwrite(str(scenes / "ir16.png"), counts)
    assert run(capsys, "fuse", scenes / "ir16.png", scenes / "vi/street.png", "-o", scenes / "o.png") == (0, [])
    assert read_image(scenes / "o.png").std() > 5


def test_each_pair_of_a_folder_is_scaled_by_itself(scenes, capsys):
    counts = read_image(scenes / "ir/street.png").astype(np.uint16)
    for name, infrared in (("a", counts + 30000), ("b", counts * 3 + 7000)):
        (scenes / "ir16").mkdir(exist_ok=True)
        cv2.imwrite(str(scenes / f"ir16/{name}.png"), infrared)
        write_image(scenes / f"vi16/{name}.png", read_image(scenes / "vi/street.png"))
    pair = scenes / "ir16/b.png", scenes / "vi16/b.png"
    assert run(capsys, "fuse", scenes / "ir16", scenes / "vi16", "-o", scenes / "out") == (0, [])
    assert run(capsys, "fuse", *pair, "-o", scenes / "b.png") == (0, [])
    np.testing.assert_array_equal(read_image(scenes / "out/b.png"), read_image(scenes / "b.png"))


@pytest.fixture
def registration(tmp_path):
    """A shift by four columns and two rows, beyond which the infrared sees nothing."""
    found = Registration(np.array([[1, 0, 4], [0, 1, 2], [0, 0, 1.0]]), SIZE, SIZE, "points")
    found.save(tmp_path / "registration.json")
    return found


@pytest.mark.parametrize("crop", [False, True])
def test_a_registration_is_applied_to_images_and_folders(scenes, capsys, registration, crop):
    options = ["--registration", scenes / "registration.json", "--side-by-side", *(["--crop"] if crop else [])]
    infrared, visible, output = scenes / "ir/street.png", scenes / "vi/street.png", scenes / "o.png"
    assert run(capsys, "fuse", infrared, visible, "-o", output, *options) == (0, [])
    assert run(capsys, "fuse", scenes / "ir", scenes / "vi", "-o", scenes / "out", *options)[0] == 0
    with Fuser(registration=registration, crop=crop) as fuser:
        wanted = fuser(read_image(infrared), read_image(visible))
        registered = fuser.warp(read_image(infrared))
    assert wanted.shape[:2] == ((46, 60) if crop else SIZE)
    for path in (output, scenes / "out/street.png"):
        np.testing.assert_array_equal(read_image(path), wanted)
    height, width = wanted.shape[:2]
    panel = read_image(scenes / "o_side_by_side.png")[-height:]
    np.testing.assert_array_equal(panel[:, :width], np.dstack([registered] * 3))
    np.testing.assert_array_equal(panel[:, -width:], wanted)


def test_a_registration_is_applied_to_videos(tmp_path, capsys, registration):
    videos = write_video(tmp_path / "ir.avi", 2), write_video(tmp_path / "vi.avi", 2)
    options = ["--registration", tmp_path / "registration.json", "--crop", "--side-by-side"]
    assert run(capsys, "fuse", *videos, "-o", tmp_path / "o.avi", *options)[0] == 0
    assert [frame.shape for frame in frames_of(tmp_path / "o.avi")] == [(46, 60, 3)] * 2
    assert len(frames_of(tmp_path / "o_side_by_side.avi")) == 2


def corrupt(path, content=b"nonsense" * 9):
    path.write_bytes(content)
    return path


BAD = {
    "missing file": (lambda d: ["none.png", "vi/street.png"], "not found"),
    "unreadable image": (lambda d: [corrupt(d / "x.png"), "vi/street.png"], "not an image"),
    "no image at all": (lambda d: [corrupt(d / "x.txt"), "vi/street.png"], "neither a folder, nor an image"),
    "a folder and a file": (lambda d: ["ir", "vi/street.png"], "of one kind"),
    "two broken videos": (lambda d: [corrupt(d / "x.mp4"), corrupt(d / "y.mp4")], "not a video"),
    "output over input": (lambda d: ["ir/street.png", "vi/street.png", "-o", d / "vi/street.png"], "overwrite"),
    "output of an unknown kind": (lambda d: ["ir/street.png", "vi/street.png", "-o", d / "o.xyz"], "suffix"),
    "output below a file": (
        lambda d: ["ir/street.png", "vi/street.png", "-o", corrupt(d / "file") / "o.png"],
        "is not a folder",
    ),
    "corrupt onnx": (lambda d: ["ir/street.png", "vi/street.png", "--model", corrupt(d / "m.onnx")], "cannot load"),
    "engine alone": (lambda d: ["ir/street.png", "vi/street.png", "--model", corrupt(d / "m.engine")], "sidecar"),
    "videos at two rates": (
        lambda d: [write_video(d / "a.avi", 2), write_video(d / "b.avi", 2, fps=10.5), "-o", d / "o.avi"],
        "frame rate",
    ),
    "crop without a registration": (
        lambda d: ["ir/street.png", "vi/street.png", "--crop"],
        "crop needs a registration",
    ),
    "output over the registration": (
        lambda d: ["ir/street.png", "vi/street.png", "--registration", corrupt(d / "r.png"), "-o", d / "r.png"],
        "overwrite",
    ),
    "no registration": (
        lambda d: ["ir/street.png", "vi/street.png", "--registration", "none.json"],
        "registration not found",
    ),
    "a size of no engine": (
        lambda d: ["ir/street.png", "vi/street.png", "--engine-size", "96x128"],
        "add --engine-cache DIR",
    ),
    "silly smoothing": (lambda d: ["ir/street.png", "vi/street.png", "--smoothing", "1.5"], "smoothing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(scenes, capsys, name):
    make, message = BAD[name]
    arguments = [scenes / part if isinstance(part, str) and (scenes / part).exists() else part for part in make(scenes)]
    if "-o" not in arguments:
        arguments += ["-o", scenes / "o.png"]
    before = {path: path.read_bytes() for path in scenes.rglob("*") if path.is_file()}
    code, errors = run(capsys, "fuse", *arguments)
    errors = [line for line in errors if not line.startswith("[")]  # OpenCV's own, which the command line silences
    assert code == 1
    assert len(errors) == 1
    assert errors[0].startswith("irvis fuse: ")
    assert message in errors[0]
    assert {path: path.read_bytes() for path in scenes.rglob("*") if path.is_file()} == before


def test_empty_folders_and_folders_without_a_common_name(scenes, capsys):
    (scenes / "empty").mkdir()
    code, errors = run(capsys, "fuse", scenes / "empty", scenes / "vi", "-o", scenes / "out")
    assert (code, len(errors)) == (1, 1)
    assert "no image in folder" in errors[0]
    write_image(scenes / "other/x.png", np.zeros((9, 9), np.uint8))
    code, errors = run(capsys, "fuse", scenes / "other", scenes / "vi", "-o", scenes / "out")
    assert (code, len(errors)) == (1, 1)
    assert "no file of" in errors[0]
    assert not (scenes / "out").exists()


def test_the_whole_program_prints_nothing_but_its_line(scenes):
    """OpenCV's own messages are kept from stderr, which only a fresh process can show."""
    (scenes / "cut.png").write_bytes((scenes / "vi/street.png").read_bytes()[:900])
    result = subprocess.run(
        [sys.executable, "-m", "irvis.runtime.cli", "fuse", "ir/street.png", "cut.png", "-o", "o.png"],
        cwd=scenes,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "irvis fuse: visible image is not an image that OpenCV can read: cut.png (900 bytes)"
    ]
