import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

torch = pytest.importorskip("torch")

from irvis.runtime.errors import FileError, ModelError
from irvis.student.datasets import to_unit
from irvis.student.losses import attention_map, similarity_matrix, similarity_samples
from irvis.student.teacher_cache import TeacherMaps, cached_maps, teacher_maps

CROPS = torch.randint(0, 256, (10, 2, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


class Toy:
    """A teacher with three channels at half size, that counts its calls and can stop at one of them."""

    def __init__(self, gain=1.0, fails_at=None, name="Toy"):
        self.name, self.digest, self.gain = name, f"{gain}".ljust(64, "0"), gain
        self.calls, self.fails_at = 0, fails_at

    def __call__(self, infrared, visible):
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        self.calls += 1
        feature = torch.cat([infrared, visible, infrared - visible], dim=1)[..., ::2, ::2]
        return self.gain * feature, self.gain * torch.maximum(infrared, visible)


def test_the_cache_holds_what_the_losses_look_at(tmp_path):
    maps = cached_maps(Toy(2.0), CROPS, tmp_path)
    feature, fused = Toy(2.0)(*to_unit(CROPS))
    assert torch.equal(maps.fused, fused)
    torch.testing.assert_close(maps.attention, attention_map(feature))
    wanted = similarity_matrix(similarity_samples(feature))
    assert (similarity_matrix(maps.samples.float()) - wanted).abs().max() < 1e-3
    assert [tuple(one.shape) for one in maps] == [(10, 1, 32, 32), (10, 1, 16, 16), (10, 3, 32, 32)]


def test_the_teacher_runs_once(tmp_path):
    teacher = Toy()
    first = cached_maps(teacher, CROPS, tmp_path)
    calls = teacher.calls
    again = cached_maps(teacher, CROPS, tmp_path)
    assert (calls, teacher.calls) == (3, 4)  # 10 crops, 4 at a time; then the first 4, to see whether it has changed
    assert all(torch.equal(one, other) for one, other in zip(first, again))


def test_other_weights_other_crops_and_other_names_are_other_entries(tmp_path):
    for teacher, crops in ((Toy(), CROPS), (Toy(2.0), CROPS), (Toy(), CROPS[:8]), (Toy(name="Other/one"), CROPS)):
        calls = teacher.calls
        cached_maps(teacher, crops, tmp_path)
        assert teacher.calls > calls
    assert sorted(path.name.partition("-")[0] for path in tmp_path.iterdir()) == ["Other_one", "Toy", "Toy", "Toy"]


def test_what_reads_the_cache_cannot_change_it(tmp_path):
    cached_maps(Toy(), CROPS, tmp_path)
    maps = cached_maps(Toy(), CROPS, tmp_path)
    maps.fused.fill_(7)
    assert cached_maps(Toy(), CROPS, tmp_path).fused.max() <= 1


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    crops = CROPS.repeat(20, 1, 1, 1)  # 50 calls; the index is written every 16
    with pytest.raises(KeyboardInterrupt):
        cached_maps(Toy(fails_at=40), crops, tmp_path)
    (index,) = tmp_path.glob("*/index.json")
    assert json.loads(index.read_text()) == {"done": 128}
    teacher = Toy()
    maps = cached_maps(teacher, crops, tmp_path)
    assert teacher.calls == 50 - 32 + 1
    assert torch.equal(maps.fused, cached_maps(Toy(), crops, tmp_path / "straight").fused)


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    program = f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(__file__).rsplit("/", 1)[0]!r})
        import torch, test_teacher_cache as here
        class Killed(here.Toy):
            def __call__(self, *planes):
                if self.calls == 20:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().__call__(*planes)
        here.cached_maps(Killed(), here.CROPS.repeat(10, 1, 1, 1), Path({str(tmp_path)!r}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    teacher = Toy()
    crops = CROPS.repeat(10, 1, 1, 1)
    maps = cached_maps(teacher, crops, tmp_path)
    assert teacher.calls == 25 - 16 + 1
    assert torch.equal(maps.fused, Toy()(*to_unit(crops))[1])


def test_of_two_runs_at_once_one_asks_the_teacher_and_the_other_waits(tmp_path):
    class Slow(Toy):
        def __call__(self, infrared, visible):
            time.sleep(0.1)
            return super().__call__(infrared, visible)

    teachers = [Slow(), Slow()]
    threads = [threading.Thread(target=cached_maps, args=(teacher, CROPS, tmp_path)) for teacher in teachers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(teacher.calls for teacher in teachers) == [1, 3]  # one looks whether it has changed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("fused.npy", b"damaged"),
        ("fused.npy", b""),  # as a power cut leaves it
        ("fused.npy", b"PK\x03\x04damaged"),
        ("index.json", b"damaged"),
        ("index.json", b"[]"),
        ("index.json", b'{"done": null}'),
    ],
)
def test_a_damaged_entry_is_made_again(tmp_path, name, content):
    wanted = cached_maps(Toy(), CROPS, tmp_path).fused.clone()
    (path,) = tmp_path.glob(f"*/{name}")
    path.write_bytes(content)
    teacher = Toy()
    assert torch.equal(cached_maps(teacher, CROPS, tmp_path).fused, wanted)
    assert teacher.calls == 3


class Edited(Toy):
    """A teacher whose digest does not tell what ``change`` does."""

    def __init__(self, change, **options):
        super().__init__(**options)
        self.change = change

    def __call__(self, infrared, visible):
        return self.change(*super().__call__(infrared, visible))


@pytest.mark.parametrize(
    "change",
    [
        lambda feature, fused: (feature, fused * 0.99),
        lambda feature, fused: (feature + 0.01, fused),
        lambda feature, fused: (feature.flip(1).cumsum(1), fused),
        lambda feature, fused: (torch.cat([feature, feature], dim=1), fused),
        lambda feature, fused: (feature[..., ::2, ::2], fused),
    ],
    ids=["fused", "feature", "mixed channels", "more channels", "smaller feature"],
)
@pytest.mark.parametrize("fails_at", [None, 20], ids=["whole", "stopped"])
def test_outputs_of_a_teacher_that_has_changed_under_one_digest_are_made_again(tmp_path, caplog, change, fails_at):
    crops = CROPS.repeat(8, 1, 1, 1)  # 20 calls; the index is written after the 16th
    edited = Edited(change)
    with contextlib.suppress(KeyboardInterrupt):
        cached_maps(Toy(fails_at=fails_at and fails_at - 1), crops, tmp_path)
    maps = cached_maps(edited, crops, tmp_path)
    assert caplog.messages == ["Toy has changed: its cached outputs are computed again"]
    wanted = cached_maps(edited, crops, tmp_path / "anew")
    assert all(torch.equal(one, other) for one, other in zip(maps, wanted))
    cached_maps(edited, crops, tmp_path)
    assert len(caplog.messages) == 1
    assert edited.calls == 1 + 20 + 20 + 1


def test_what_a_stopped_run_made_again_is_not_taken_for_all(tmp_path):
    cached_maps(Toy(), CROPS, tmp_path)
    halved = Edited(lambda feature, fused: (feature, fused / 2), fails_at=2)  # at the second 4 of 10 crops
    with pytest.raises(KeyboardInterrupt):
        cached_maps(halved, CROPS, tmp_path)
    halved.fails_at = None
    assert torch.equal(cached_maps(halved, CROPS, tmp_path).fused, Toy()(*to_unit(CROPS))[1] / 2)


def test_files_of_other_shapes_without_a_checked_output_are_made_again(tmp_path):
    """As left by a run that was killed when it had found that the teacher has changed."""
    cached_maps(Toy(), CROPS, tmp_path)
    (index,) = tmp_path.glob("*/index.json")
    index.write_text('{"done": 0}')
    maps = cached_maps(Edited(lambda feature, fused: (torch.cat([feature, feature], dim=1), fused)), CROPS, tmp_path)
    assert maps.samples.shape == (10, 6, 32, 32)


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_outputs_that_differ_by_rounding_are_kept(tmp_path, caplog, gain):
    cached_maps(Toy(gain), CROPS, tmp_path)
    rounding = Edited(lambda feature, fused: (feature * (1 + 1e-6), fused * (1 + 1e-6)), gain=gain)
    assert torch.equal(cached_maps(rounding, CROPS, tmp_path).fused, Toy(gain)(*to_unit(CROPS))[1])
    assert (rounding.calls, "has changed" in caplog.text) == (1, False)


def test_a_teacher_that_draws_random_numbers_runs_once_too(tmp_path, caplog):
    noisy = Edited(lambda feature, fused: (feature + torch.randn_like(feature), (fused + torch.rand_like(fused)) / 2))
    first = cached_maps(noisy, CROPS, tmp_path)
    torch.rand(1)  # as another process has drawn others before
    before = torch.get_rng_state()
    again = cached_maps(noisy, CROPS, tmp_path)
    assert (noisy.calls, caplog.messages) == (4, [])
    assert all(torch.equal(one, other) for one, other in zip(first, again))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("gain", "warnings"), [(1.0, 0), (1.04, 0), (2.0, 1), (255.0, 1)])
def test_a_teacher_of_another_range_is_warned_of(tmp_path, caplog, gain, warnings):
    for _ in range(2):
        cached_maps(Toy(gain), CROPS, tmp_path)
    assert [message.startswith("Toy: ") and "outside 0 to 1" in message for message in caplog.messages] == [
        True
    ] * 2 * warnings


def test_a_run_that_reads_the_outputs_goes_on_with_them_where_they_are_made_again(tmp_path):
    maps = cached_maps(Toy(), CROPS, tmp_path)
    before = maps.fused.clone()
    cached_maps(Edited(lambda feature, fused: (feature, fused / 2)), CROPS, tmp_path)
    assert torch.equal(maps.fused, before)


@pytest.mark.parametrize(
    "change",
    [lambda feature, fused: (feature / 0, fused), lambda feature, fused: (feature, fused * float("nan"))],
    ids=["feature", "fused"],
)
def test_a_teacher_of_nan_is_refused(change):
    with pytest.raises(ModelError, match="Toy gives NaN or infinity"):
        teacher_maps(Edited(change), *to_unit(CROPS))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda feature, fused: (feature, fused[..., ::2, ::2]), "(10, 1, 16, 16) and (10, 3, 16, 16)"),
        (lambda feature, fused: (feature[:1], fused), "(10, 1, 32, 32) and (1, 3, 16, 16)"),
        (lambda feature, fused: (feature.flatten(2), fused), "(10, 1, 32, 32) and (10, 3, 256)"),
    ],
)
def test_a_teacher_of_other_shapes_is_refused(change, found):
    with pytest.raises(ModelError) as caught:
        teacher_maps(Edited(change), *to_unit(CROPS))
    assert str(caught.value) == f"Toy must return a fused (10, 1, 32, 32) and a feature (B, C, h, w). Got {found}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_outputs_of_another_precision_are_taken(dtype):
    maps = teacher_maps(Edited(lambda feature, fused: (feature.to(dtype), fused.to(dtype))), *to_unit(CROPS))
    assert [one.dtype for one in maps] == [torch.float32, torch.float32, torch.float16]
    assert (maps.fused - Toy()(*to_unit(CROPS))[1]).abs().max() < 0.004


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot cache teacher outputs at .*; give --cache"):
        cached_maps(Toy(), CROPS, tmp_path / "file")
    cached_maps(Toy(), CROPS, tmp_path)
    (index,) = tmp_path.glob("*/index.json")
    index.unlink()
    index.mkdir()
    with pytest.raises(FileError, match=f"cannot cache teacher outputs at .*: cannot write {index}: it is a folder; "):
        cached_maps(Toy(), CROPS, tmp_path)


def test_a_full_disk_is_one_line_and_takes_no_room(mount):
    """Writing to a mapped file without blocks once ended the process: "Bus error"."""
    disk = mount("size=100k")  # of the 110 that are needed
    with pytest.raises(FileError, match=r"cannot cache teacher outputs at .*: No space left on device; give --cache"):
        cached_maps(Toy(), CROPS, disk)
    assert not list(disk.glob("*/*.npy"))
    mount("remount,size=200k")
    assert torch.equal(cached_maps(Toy(), CROPS, disk).fused, Toy()(*to_unit(CROPS))[1])


def test_the_default_place_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached_maps(Toy(), CROPS[:4])
    assert len(list((tmp_path / "irvis" / "teachers").glob("Toy-*/fused.npy"))) == 1


def test_maps_are_in_the_order_that_the_trainer_flattens_them_in():
    assert TeacherMaps._fields == ("fused", "attention", "samples")
