import json
import signal
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.benchmarks.registration import (
    DEGREES,
    FAILED_PX,
    LOST_PX,
    METHODS,
    SCALE,
    SHIFT,
    Trial,
    corner_error,
    crop,
    distort,
    ecc,
    information,
    main,
    mutual_information,
    narrow,
    sift,
    to_confidence,
    to_markdown,
    trials,
)
from irvis.runtime.errors import IrvisError
from irvis.runtime.images import read_infrared
from irvis.runtime.registration.automatic import Estimate
from irvis.runtime.registration.homography import project
from irvis.runtime.samples import make_scene, write_samples


@pytest.fixture(scope="module")
def grey():
    return cv2.cvtColor(make_scene("street", 240, 320)[1], cv2.COLOR_BGR2GRAY)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(220, 320), (480, 200), (256, 256)]))
def test_a_warp_brings_in_nothing_from_outside_and_stays_within_its_limits(seed, size):
    warped, true = distort(np.full(size, 200, np.uint8), seed)
    assert warped.shape == crop(np.zeros(size)).shape
    assert warped.min() == warped.max() == 200
    turn = true[:2, :2]
    assert abs(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))) <= DEGREES
    assert 1 / (1 + SCALE) <= np.hypot(turn[0, 0], turn[1, 0]) <= 1 / (1 - SCALE)
    centre = (np.array(warped.shape[::-1]) - 1) / 2
    assert abs(project(np.linalg.inv(true), centre) - centre).max() <= SHIFT + 1e-9


def test_the_true_homography_brings_the_frame_back(grey):
    warped, true = distort(grey, 5)
    back = cv2.warpPerspective(warped, true, warped.shape[::-1])
    inside = cv2.warpPerspective(np.ones_like(warped), true, warped.shape[::-1]) > 0
    difference = cv2.absdiff(back, crop(grey))[inside]
    assert difference.mean() < 2
    assert cv2.absdiff(warped, crop(grey)).mean() > 4


def test_frames_too_small_to_warp_are_refused():
    with pytest.raises(IrvisError, match="100x120 is too small to warp"):
        crop(np.zeros((100, 120)))


def test_the_corner_error_is_a_mean_distance():
    shift = np.array([[1, 0, 3], [0, 1, 4], [0, 0, 1.0]])
    assert corner_error(shift, np.eye(3), (20, 30)) == pytest.approx(5)
    assert corner_error(np.diag((1.1, 1.1, 1)), np.eye(3), (31, 41)) == pytest.approx(
        0.1 * np.mean(np.hypot([0.5, 40.5, 40.5, 0.5], [0.5, 0.5, 30.5, 30.5]))
    )


def test_information_is_the_entropy_of_equal_frames_and_0_of_independent_ones():
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 4, (200, 200)).astype(np.float32) / 3 for _ in range(2))
    assert information(one, one, np.eye(3), 4) == pytest.approx(np.log(4), abs=1e-3)
    assert information(one, 1 - one, np.eye(3), 4) == pytest.approx(np.log(4), abs=1e-3)
    assert information(one, other, np.eye(3), 4) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("method", [ecc, mutual_information, sift])
def test_every_method_registers_a_frame_with_itself(grey, method):
    warped, true = distort(grey, 3)
    found = method([(warped, crop(grey))], "similarity")
    assert corner_error(found.homography, true, warped.shape) < 1.5


def trial(recovered, confidence, unrelated=0.1, error=3.0, data_set="X/test"):
    return Trial(data_set, "a", error, recovered, confidence, unrelated, 0.5, True)


def test_the_same_wrong_answer_twice_is_a_failure():
    assert not trial(FAILED_PX, 0.9, error=LOST_PX).failed
    assert trial(FAILED_PX + 0.1, 0.9).failed
    assert trial(0, 0.9, error=LOST_PX + 0.1).failed


def test_the_tables_count_failures():
    rows = [trial(1.0, 0.9), trial(2.0, 0.7), trial(FAILED_PX + 1, 0.2, data_set="Y/test"), trial(0.5, 0.3, 0.6)]
    table = to_markdown({"gradients": rows})
    assert "| gradients | X/test | 3 | 3.00 | 0.0 % | 1.00 |" in table
    assert "| gradients | all | 4 | 3.00 | 0.0 % | 1.50 | 4.80 | 25.0 % | 0.50 |" in table
    said = to_confidence([*rows, trial(1, 0.8)])
    assert "the others, 4 trials: 25.0 % failed; trusted 50.0 %, of which 0.0 % failed" in said
    assert "of the good 33.3 % refused; of the unrelated 25.0 % trusted; area under the curve 0.933" in said


def test_the_recovered_error_is_from_the_methods_own_answer_before_the_warp(scenes, monkeypatch):
    before = np.array([[1.1, 0, 9], [0, 1.1, -4], [0, 0, 1.0]])
    true = distort(read_infrared(scenes / "ir" / "smoke.png"), zlib.crc32(b"smoke"))[1]
    answers = iter([before, before @ true, np.eye(3)])
    monkeypatch.setitem(METHODS, "known", lambda pairs, model: Estimate(next(answers), 0.5, False))
    found = next(trials(scenes, "known", 1, "similarity"))
    assert found.recovered_px == pytest.approx(0, abs=1e-9)
    assert found.error_px == pytest.approx(corner_error(before @ true, true, crop(np.zeros((300, 400))).shape))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "scenes" / "test"
    write_samples(folder, 300, 400)
    (folder / "ir" / "glare.png").unlink()
    return folder


def test_the_command_measures_and_keeps_every_trial(scenes, tmp_path, capsys, monkeypatch):
    file = tmp_path / "trials.json"
    monkeypatch.setattr(sys, "argv", ["registration", str(scenes), "--told", "--json", str(file)])
    assert main() == 0
    assert "| gradients | scenes/test | 2 |" in capsys.readouterr().out
    kept = json.loads(file.read_text())["trials"]["gradients"]
    assert [trial["name"] for trial in kept] == ["smoke", "street"]
    assert max(trial["error_px"] for trial in kept) < 2
    assert all(trial["confidence"] > trial["unrelated_confidence"] for trial in kept)


def test_a_subset_may_be_taken(scenes, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["registration", str(scenes), "--every", "2"])
    assert main() == 1
    assert "two trials of 1 need 2 pairs or more. Got 1 from" in capsys.readouterr().err


def test_a_narrower_infrared_lies_in_the_middle(grey):
    middle, placed = narrow(grey, 0.7)
    assert middle.shape == (168, 224)
    found = cv2.warpPerspective(middle, placed, grey.shape[::-1])
    np.testing.assert_array_equal(found[36:204, 48:272], grey[36:204, 48:272])


@pytest.mark.parametrize("share", ["0.8", "1.25"])
def test_either_frame_may_be_narrower(scenes, share, tmp_path, capsys, monkeypatch):
    file = tmp_path / "trials.json"
    monkeypatch.setattr(sys, "argv", ["registration", str(scenes), "--share", share, "--told", "--json", str(file)])
    assert main() == 0
    kept = json.loads(file.read_text())
    assert (kept["share"], kept["told"]) == (float(share), True)
    assert max(trial["error_px"] for trial in kept["trials"]["gradients"]) < 3
    assert max(trial["recovered_px"] for trial in kept["trials"]["gradients"]) < 3


def test_no_other_method_is_told(scenes, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["registration", str(scenes), "--told", "--method", "sift"])
    assert main() == 1
    assert capsys.readouterr().err == "registration: --told is for the method gradients alone\n"


@pytest.mark.parametrize("share", ["0", "11", "nan", "wide"])
def test_a_share_has_limits(share, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["registration", "TNO", "--share", share])
    with pytest.raises(SystemExit):
        main()
    assert f"a share is 0.1 to 10. Got '{share}'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--every", "--frames"])
def test_a_count_below_one_is_refused(option, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["registration", "TNO", option, "0"])
    with pytest.raises(SystemExit):
        main()
    assert "must be a whole number, 1 or more. Got '0'" in capsys.readouterr().err


def test_two_trials_are_the_least(scenes, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["registration", str(scenes), "--frames", "2"])
    assert main() == 1
    assert "two trials of 2 need 4 pairs or more. Got 2 from" in capsys.readouterr().err


def test_a_folder_without_pairs_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["registration", str(tmp_path)])
    assert main() == 1
    said = capsys.readouterr().err
    assert said.startswith("registration: no pairs in")
    assert said.count("\n") == 1


def test_ctrl_c_ends_it(scenes):
    program = "from irvis.benchmarks.registration import main; print('imported', flush=True); raise SystemExit(main())"
    command = [sys.executable, "-c", program, *[str(scenes)] * 50]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode().strip().endswith("registration: interrupted")
