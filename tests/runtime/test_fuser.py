import copy
import pickle
import threading
import time

import cv2
import numpy as np
import pytest

from irvis.benchmarks.loop_cost import NoNetwork
from irvis.runtime import FileError, FrameError, Fuser, ModelError
from irvis.runtime.backend import open_backend
from irvis.runtime.infrared import InfraredScaler
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import SHIPPED_MODEL
from irvis.runtime.work import Work

SIZE = (48, 64)


@pytest.fixture(scope="module")
def fuser():
    with Fuser(threads=1) as fuser:
        yield fuser


@pytest.fixture(scope="module")
def pair():
    return make_scene("street", *SIZE)


def test_the_shipped_student_fuses_colour_and_grey(fuser, pair):
    infrared, visible = pair
    fused = fuser(infrared, visible)
    assert fused.dtype == np.uint8
    assert fused.shape == visible.shape
    grey = fuser(infrared, np.ascontiguousarray(visible[:, :, 1]))
    assert grey.shape == SIZE


def test_warm_bodies_show_in_the_fused_picture(fuser):
    infrared, visible = make_scene("street", 120, 160)
    fused = fuser(infrared, visible).mean(axis=2)
    hot = infrared > 150
    assert hot.sum() > 50
    assert fused[hot].mean() > visible.mean(axis=2)[hot].mean() + 40


def test_the_result_is_the_callers(fuser, pair):
    first = fuser(*pair)
    kept = first.copy()
    fuser(255 - pair[0], 255 - pair[1])
    np.testing.assert_array_equal(first, kept)


def test_out_receives_the_result(fuser, pair):
    out = np.zeros_like(pair[1])
    assert fuser(*pair, out=out) is out
    np.testing.assert_array_equal(out, fuser(*pair))


def test_inputs_are_left_as_they_were(fuser, pair):
    infrared, visible = pair[0].copy(), pair[1].copy()
    fuser(infrared, visible)
    np.testing.assert_array_equal(infrared, pair[0])
    np.testing.assert_array_equal(visible, pair[1])


def test_views_of_larger_frames_are_taken(fuser, pair):
    infrared, visible = (np.zeros((100, 100, *frame.shape[2:]), np.uint8) for frame in pair)
    infrared[3:51, 5:69], visible[3:51, 5:69] = pair
    np.testing.assert_array_equal(fuser(infrared[3:51, 5:69], visible[3:51, 5:69]), fuser(*pair))


def test_sixteen_bit_infrared_is_the_same_scene(pair):
    infrared, visible = pair
    with Fuser(infrared_percentiles=(0, 100), threads=1) as fuser:
        stretched = (infrared.astype(float) - infrared.min()) / (infrared.max() - infrared.min())
        counts = (7000 + 800 * stretched).astype(np.uint16)
        wanted = fuser(np.rint(255 * stretched).astype(np.uint8), visible)
        np.testing.assert_allclose(fuser(counts, visible).astype(int), wanted, atol=6)


def test_stage_times_add_up(fuser, pair):
    fuser(*pair)
    times = fuser.times
    assert times.h2d_ms is None  # ONNX Runtime on a CPU cannot tell
    assert 0 < times.pre_ms + times.compute_ms + times.post_ms <= times.total_ms


@pytest.mark.parametrize("bad", [np.zeros(SIZE, np.float32), np.full(SIZE, np.nan)])
def test_float_and_nan_frames_are_refused(fuser, pair, bad):
    with pytest.raises(FrameError, match="must be uint8 or uint16"):
        fuser(bad, pair[1])


def test_frames_of_two_sizes_are_refused(fuser, pair):
    with pytest.raises(FrameError, match="differ in size"):
        fuser(pair[0][1:], pair[1])


def test_closing_twice_is_fine_and_use_after_is_refused(pair):
    fuser = Fuser(threads=1)
    fuser.close()
    fuser.close()
    with pytest.raises(ModelError, match="closed"):
        fuser(*pair)


def test_a_fuser_made_here_works_in_a_thread(fuser, pair):
    results = []
    thread = threading.Thread(target=lambda: results.append(fuser(*pair)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(results[0], fuser(*pair))


def test_missing_models_and_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"model not found: .*no.onnx; give .* ships: student, fast"):
        Fuser(tmp_path / "no.onnx")
    (tmp_path / "student.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"irvis export"):
        Fuser(tmp_path / "student.pt")


@pytest.mark.parametrize("model", [b"student.onnx", 3, ["student.onnx"], Fuser])
def test_what_is_no_model_at_all_is_told_by_its_type(model):
    found = type(model).__name__
    with pytest.raises(ModelError, match=f"model must be a path, a name or an open Backend. Got {found}$"):
        Fuser(model)


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_one_that_is_sent_elsewhere_says_to_make_one_there(fuser, send):
    with pytest.raises(TypeError, match="a Fuser can be neither pickled nor copied: make one in each process"):
        send(fuser)


@pytest.mark.parametrize("content", [b"", b"\x08\x07nonsense", b"x" * 1000])
def test_corrupt_onnx_is_one_line(tmp_path, content):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot load .*bad.onnx") as caught:
        Fuser(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


def test_a_truncated_onnx_is_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(SHIPPED_MODEL.read_bytes()[:200_000])
    with pytest.raises(ModelError):
        Fuser(tmp_path / "bad.onnx")


def test_providers_are_checked():
    with pytest.raises(ModelError, match="no provider"):
        Fuser(providers=["NoSuchProvider"])
    with pytest.raises(ModelError, match="threads"):
        Fuser(threads=0)


@pytest.fixture(scope="module")
def fixed_model(tmp_path_factory):
    """A model of one size, which the workstation's export makes."""
    pytest.importorskip("torch")
    from irvis.export.to_onnx import export
    from irvis.student.checkpoint import load_student

    path = tmp_path_factory.mktemp("model") / "small.onnx"
    export(load_student(SHIPPED_MODEL.with_suffix(".safetensors")), path, SIZE)
    return path


def test_a_fixed_size_is_fused_like_by_the_dynamic_model(fixed_model, fuser, pair):
    with Fuser(fixed_model) as fixed:
        assert fixed.size == SIZE
        np.testing.assert_allclose(fixed(*pair).astype(int), fuser(*pair), atol=1)


def test_other_sizes_say_both_and_how_to_rebuild(fixed_model):
    with Fuser(fixed_model) as fixed, pytest.raises(FrameError, match=r"are 60x80, small\.onnx takes 48x64") as error:
        fixed(*make_scene("street", 60, 80))
    assert "irvis export CHECKPOINT --size 60x80" in str(error.value)


def test_resize_fits_them_and_gives_their_size_back(fixed_model, fuser):
    infrared, visible = make_scene("smoke", 96, 128)
    with Fuser(fixed_model, resize=True) as fixed:
        fused = fixed(infrared, visible)
    assert fused.shape == visible.shape
    assert abs(fused.astype(int) - fuser(infrared, visible)).mean() < 4


# A model that takes frames.


@pytest.fixture(scope="module")
def frames_model(tmp_path_factory):
    """The shipped student, taking frames of SIZE."""
    pytest.importorskip("torch")
    from irvis.export.to_onnx import export
    from irvis.student.checkpoint import load_student

    path = tmp_path_factory.mktemp("model") / "frames.onnx"
    export(load_student(SHIPPED_MODEL.with_suffix(".safetensors")), path, SIZE, frames=True)
    return path


@pytest.fixture
def frames_fuser(frames_model):
    with Fuser(frames_model, threads=1) as fuser:
        assert fuser.backend.takes_frames
        assert fuser.size == SIZE
        yield fuser


def test_frames_go_straight_into_the_model(frames_fuser, fuser, pair, monkeypatch):
    given = []
    run = frames_fuser.backend.run

    def spy(*frames):
        given.extend(frames)
        return run(*frames)

    monkeypatch.setattr(frames_fuser.backend, "run", spy)
    fused = frames_fuser(*pair)
    assert given[0] is pair[0]
    assert given[1] is pair[1]
    np.testing.assert_allclose(fused.astype(int), fuser(*pair), atol=1)


def test_with_frames_the_result_is_the_callers(frames_fuser, pair):
    wanted = frames_fuser(*pair)
    kept, out = wanted.copy(), np.zeros_like(pair[1])
    assert frames_fuser(*pair, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    frames_fuser(255 - pair[0], 255 - pair[1])
    np.testing.assert_array_equal(wanted, kept)


def test_with_frames_views_are_taken(frames_fuser, pair):
    infrared, visible = (np.zeros((100, 100, *frame.shape[2:]), np.uint8) for frame in pair)
    infrared[3:51, 5:69], visible[3:51, 5:69] = pair
    np.testing.assert_array_equal(frames_fuser(infrared[3:51, 5:69], visible[3:51, 5:69]), frames_fuser(*pair))


def test_with_frames_grey_gives_grey(frames_fuser, fuser, pair):
    grey = np.ascontiguousarray(pair[1][:, :, 1])
    fused = frames_fuser(pair[0], grey)
    assert fused.shape == SIZE
    assert fused.flags.c_contiguous
    np.testing.assert_allclose(fused.astype(int), fuser(pair[0], grey), atol=1)
    out = np.zeros(SIZE, np.uint8)
    assert frames_fuser(pair[0], grey, out=out) is out
    np.testing.assert_array_equal(out, fused)


def test_with_frames_sixteen_bits_are_scaled_and_rounded(frames_model, fuser, pair):
    counts = 7000 + 3 * pair[0].astype(np.uint16)
    with Fuser(frames_model, threads=1) as fixed, Fuser(threads=1) as planes:
        np.testing.assert_allclose(fixed(counts, pair[1]).astype(int), planes(counts, pair[1]), atol=2)
        np.testing.assert_array_equal(fixed.scaler.limits, planes.scaler.limits)


@pytest.mark.parametrize("colour", [True, False])
def test_with_frames_other_sizes_are_recoloured_at_their_own(frames_model, fixed_model, colour):
    infrared, visible = make_scene("smoke", 96, 128)
    if not colour:
        visible = np.ascontiguousarray(visible[:, :, 1])
    with Fuser(frames_model, resize=True) as frames, Fuser(fixed_model, resize=True) as planes:
        fused = frames(infrared, visible)
        # Half a level from rounding at the model's size, half from rounding after resizing.
        np.testing.assert_allclose(fused.astype(int), planes(infrared, visible), atol=2)
        out = np.zeros_like(visible)
        assert frames(infrared, visible, out=out) is out
        np.testing.assert_array_equal(out, fused)


def test_with_frames_other_sizes_are_refused_all_the_same(frames_fuser):
    with pytest.raises(FrameError, match=r"are 60x80, frames\.onnx takes 48x64.*CHECKPOINT --size 60x80 --frames`"):
        frames_fuser(*make_scene("street", 60, 80))


def test_with_frames_stage_times_add_up(frames_fuser, pair):
    frames_fuser(*pair)
    times = frames_fuser.times
    assert 0 < times.pre_ms + times.compute_ms + times.post_ms <= times.total_ms
    assert times.pre_ms + times.post_ms < times.compute_ms


# The stages of a call.


def test_stages_may_run_one_pair_ahead(fuser, pair):
    """Each pair has a Work of its own; a result may be finished after the next was inferred."""
    others = 255 - pair[0], 255 - pair[1]
    wanted = fuser(*pair), fuser(*others)
    works = Work(keeps=True), Work(keeps=True)
    for work, frames in zip(works, (pair, others)):
        fuser.prepare(*frames, work)
    for work in works:
        fuser.infer(work)
    for work, result in zip(works, wanted):
        np.testing.assert_array_equal(fuser.finish(work), result)


def test_a_backend_that_is_open_is_taken_and_closed(pair):
    backend = open_backend(SHIPPED_MODEL, threads=1)
    with Fuser(backend) as fuser, Fuser(threads=1) as other:
        np.testing.assert_array_equal(fuser(*pair), other(*pair))
    with pytest.raises(ModelError, match="closed"):
        backend.run(np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32))


# What surrounds a model: backends that are simpler than a network.


class Timed(NoNetwork):
    """A network that takes 50 ms, and tells where."""

    h2d_ms, compute_ms, d2h_ms = 5.0, 40.0, 3.0

    def run(self, infrared, visible):
        time.sleep(0.05)
        return visible


def test_stage_times_are_milliseconds_and_each_has_its_place():
    frames = np.zeros((480, 640), np.uint8), np.zeros((480, 640, 3), np.uint8)
    with Fuser(Timed()) as fuser:
        fuser(*frames)
        started = time.perf_counter()
        fuser(*frames)
        elapsed_ms = (time.perf_counter() - started) * 1e3
    times = fuser.times
    assert (times.h2d_ms, times.compute_ms, times.d2h_ms) == (5.0, 40.0, 3.0)
    assert 50 + times.pre_ms + times.post_ms <= times.total_ms <= elapsed_ms
    assert min(times.pre_ms, times.post_ms) > 0.01  # what no machine does a frame in


class Small(NoNetwork):
    """A network of one size."""

    size = SIZE


@pytest.mark.parametrize("size", [(192, 256), (192, 64), (48, 256)])
def test_resizing_down_averages_so_that_a_small_hot_target_does_not_vanish(size):
    infrared, visible, work = np.zeros(size, np.uint8), np.zeros(size, np.uint8), Work()
    infrared[4, 4] = 240  # bilinear interpolation would pass it over
    with Fuser(Small(), resize=True) as fuser:
        fuser.prepare(infrared, visible, work)
    seen = work.inputs[0] * 255
    assert seen.sum() == pytest.approx(240 * SIZE[0] * SIZE[1] / (size[0] * size[1]), abs=0.5)


class SmallFrames(Small):
    """A network of one size that takes frames."""

    takes_frames = True


@pytest.mark.parametrize("size", [(192, 256), (37, 41), (24, 32), (40, 200), (200, 40)])
@pytest.mark.parametrize("network", [Small, SmallFrames])
def test_of_resized_frames_the_visible_keeps_what_the_network_leaves(network, size):
    rng = np.random.default_rng(0)
    infrared, colour = rng.integers(0, 256, size, np.uint8), rng.integers(0, 256, (*size, 3), np.uint8)
    with Fuser(network(), resize=True) as fuser:
        for visible in (colour, colour[:, :, 1].copy(), colour[:, ::-1]):
            np.testing.assert_array_equal(fuser(infrared, visible), visible)
            np.testing.assert_array_equal(fuser(infrared, visible, np.empty(visible.shape, np.uint8)), visible)


class Brighter(Small):
    """A network that adds ten levels."""

    def run(self, infrared, visible):
        return visible + np.float32(10 / 255)


class BrighterFrames(SmallFrames):
    """One that takes frames."""

    def run(self, infrared, visible):
        return visible + np.uint8(10)


@pytest.mark.parametrize("network", [Brighter, BrighterFrames])
def test_of_resized_frames_the_luminance_changes_as_the_network_says(network):
    rng = np.random.default_rng(0)
    infrared, colour = rng.integers(0, 256, (96, 128), np.uint8), rng.integers(0, 240, (96, 128, 3), np.uint8)
    work = Work()
    with Fuser(network(), resize=True) as fuser:
        for visible in (colour, colour[:, :, 1].copy()):
            np.testing.assert_array_equal(fuser(infrared, visible), visible + 10)
            in_place = visible.copy()
            assert fuser(infrared, in_place, in_place) is in_place
            np.testing.assert_array_equal(in_place, visible + 10)
            fuser.prepare(infrared, visible, work)
            fuser.infer(work)
            np.testing.assert_array_equal(fuser.finish(work), visible + 10)


class FramesAlone(SmallFrames):
    """One that takes nothing else, as an engine does, and shows the infrared."""

    def run(self, infrared, visible):
        assert (infrared.dtype, infrared.shape) == (visible.dtype, visible.shape[:2]) == (np.uint8, SIZE)
        return cv2.cvtColor(infrared, cv2.COLOR_GRAY2BGR)


def test_of_resized_frames_sixteen_bits_are_scaled_rounded_and_given_their_detail_again():
    """Half of the frame 2000 counts warmer, and a grid of single pixels that the model's size has not."""
    infrared, visible = np.full((96, 128), 7000, np.uint16), np.full((96, 128, 3), 90, np.uint8)
    infrared[:, 64:] = 9000
    infrared[8::16, 8::16] = 8000
    with Fuser(FramesAlone(), resize=True, infrared_percentiles=(0, 100)) as fuser:
        fused = fuser(infrared, visible)[:, :, 1].astype(int)
    assert abs(np.median(fused[:, :60])) <= 1
    assert abs(np.median(fused[:, 68:]) - 255) <= 1
    assert (fused[8::16, 8:60:16] > 60).all()  # 128 in the frame, 32 at the model's size


def test_frames_of_another_size_are_told_what_this_fuser_is_opened_with(monkeypatch, tmp_path):
    class Rebuilt(Small):
        def rebuild_command(self, size):
            return f"irvis export CHECKPOINT --size {size[0]}x{size[1]}"

    monkeypatch.setattr("irvis.runtime.fuser.open_backend", lambda *_: Rebuilt())
    wide = np.zeros((60, 80), np.uint8)
    with Fuser(engine_cache=tmp_path) as built, pytest.raises(FrameError) as error:
        built(wide, wide)
    assert "engine_size=(60, 80) (--engine-size 60x80) from an ONNX of that or of dynamic size" in str(error.value)
    # With providers, the folder holds ONNX Runtime's engines, and engine_size does nothing.
    with Fuser(engine_cache=tmp_path, providers=["CPUExecutionProvider"]) as run, pytest.raises(FrameError) as error:
        run(wide, wide)
    assert "rebuild it with `irvis export CHECKPOINT --size 60x80`" in str(error.value)


def test_an_out_that_is_a_shifted_part_of_the_visible_is_refused_and_the_visible_itself_is_not(fuser, pair):
    memory = np.zeros((SIZE[0] + 1, SIZE[1], 3), np.uint8)
    memory[:-1] = pair[1]
    with pytest.raises(FrameError, match="out overlaps the visible frame"):
        fuser(pair[0], memory[:-1], memory[1:])
    np.testing.assert_array_equal(memory[:-1], pair[1])
    np.testing.assert_array_equal(fuser(pair[0], memory[:-1], memory[:-1]), fuser(*pair))


def test_resizing_up_interpolates():
    infrared, visible, work = np.zeros((24, 32), np.uint8), np.zeros((24, 32), np.uint8), Work()
    infrared[:, 16:] = 200
    with Fuser(Small(), resize=True) as fuser:
        fuser.prepare(infrared, visible, work)
    np.testing.assert_allclose(work.inputs[0][20, 29:35] * 255, [0, 0, 50, 150, 200, 200], atol=1e-3)


def test_by_default_infrared_of_sixteen_bits_is_scaled_as_the_scaler_does_and_a_cut_can_be_told(pair):
    counts = 7000 + 12 * pair[0].astype(np.uint16)
    scaler, wanted, work = InfraredScaler(), np.empty(SIZE, np.float32), Work()
    with Fuser(NoNetwork()) as fuser:
        for infrared in (counts + 1000, counts):
            scaler(infrared, wanted)
            fuser.prepare(infrared, pair[1], work)
            np.testing.assert_array_equal(work.inputs[0], wanted)
        fuser.reset()
        InfraredScaler()(counts, wanted)
        fuser.prepare(counts, pair[1], work)
        np.testing.assert_array_equal(work.inputs[0], wanted)


def test_a_size_for_an_engine_that_nobody_builds_is_refused():
    with pytest.raises(ModelError, match="give engine_cache too"):
        Fuser(engine_size=(480, 640))
