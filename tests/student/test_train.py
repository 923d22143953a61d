import argparse
import csv
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from torch.distributed import TCPStore

from irvis.runtime.cli import main
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import sha256
from irvis.runtime.images import read_image, write_image
from irvis.runtime.pairs import pairs_of
from irvis.runtime.samples import write_samples
from irvis.runtime.shipped import NAMES, find_model
from irvis.student import distributed
from irvis.student.checkpoint import load_student, read_metadata, save_student
from irvis.student.network import Student
from irvis.student.recipes import RECIPES, Recipe, TrainConfig
from irvis.student.run_log import RunLog
from irvis.student.teachers.published import MODULES
from irvis.student.train import RunOptions, _loop, train
from irvis.student.train_options import add_arguments, config_of
from irvis.student.trainer import Trainer

SMALL = TrainConfig(crops=8, crop_side=16, batch=2, steps=10, learning_rate=1e-3, warmup=0.0)
RICH = replace(SMALL, ema=0.5, augment=True, weighting="dwa", correlation=0.5)
OPTIONS = "--crops 8 --crop-side 16 --batch 2 --learning-rate 1e-3 --warmup 0 --no-tensorboard".split()


class Toy:
    """A teacher of three channels at half size."""

    name, digest = "Toy", "0" * 64

    def __call__(self, infrared, visible):
        feature = torch.cat([infrared, visible, infrared - visible], dim=1)[..., ::2, ::2]
        return feature, torch.maximum(infrared, visible)


class Second(Toy):
    name, digest = "Second", "1" * 64

    def __call__(self, infrared, visible):
        feature, _ = super().__call__(infrared, visible)
        return feature, (infrared + visible) / 2


@pytest.fixture(scope="module")
def pairs(samples):
    return pairs_of(samples)


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
    """Train with the toy teachers, their outputs kept in one folder for all."""
    cache = tmp_path_factory.mktemp("cache")

    def run_(output, config=RICH, **options):
        given = RunOptions(cache=cache, tensorboard=False, **options)
        return train(pairs, output, config, teachers=[Toy(), Second()], options=given)

    return run_


@pytest.fixture(scope="module")
def straight(run, tmp_path_factory):
    """The output of a run of RICH that nothing stopped."""
    output = tmp_path_factory.mktemp("straight") / "student.safetensors"
    run(output)
    return output


def beside(output):
    return output.with_name(output.name + ".state"), output.with_name(output.name + ".csv")


def rows_of(output):
    with beside(output)[1].open(newline="") as stream:
        return list(csv.DictReader(stream))


def assert_same_weights(one, other):
    wanted, found = load_student(one).state_dict(), load_student(other).state_dict()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def stop_after(monkeypatch, step, number=signal.SIGINT):
    """Have this process signalled in the middle of a step."""
    original = Trainer.launch

    def launch(trainer, count):
        if trainer.step + 1 == step:
            signal.raise_signal(number)
        original(trainer, count)

    monkeypatch.setattr(Trainer, "launch", launch)


def last_line(capsys):
    """Return the last line on stderr, below those of the progress bars."""
    return capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]


def test_a_finished_run_leaves_the_checkpoint_and_a_row_a_step(straight):
    state, _ = beside(straight)
    assert not state.exists()
    rows = rows_of(straight)
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 11)]
    for row in rows:
        losses = {name: float(value) for name, value in row.items()}
        assert losses["task"] == pytest.approx(losses["intensity"] + 10 * losses["gradient"], rel=1e-5)
    first = {name: float(value) for name, value in rows[0].items()}
    distilled = first["attention"] + first["similarity"] + first["response"]
    assert first["loss"] == pytest.approx(first["task"] + distilled + 0.5 * first["correlation"], rel=1e-5)


def test_the_checkpoint_says_how_it_was_made(straight):
    said = read_metadata(straight)["training"]
    for part in ('"steps": 10', '"weighting": "dwa"', f'"Toy": "{"0" * 64}"', '"pairs": 3', '"torch"'):
        assert part in said


def test_the_same_run_gives_the_same_weights_and_another_seed_others(straight, run, tmp_path):
    again, other = tmp_path / "again.safetensors", tmp_path / "other.safetensors"
    returned = run(again)
    assert_same_weights(straight, again)
    save_student(other, returned)
    assert_same_weights(again, other)
    other.unlink()
    run(other, replace(RICH, seed=1))
    with pytest.raises(AssertionError):
        assert_same_weights(straight, other)
    assert training_of(other)["crops_sha256"] != training_of(straight)["crops_sha256"]


@pytest.mark.usefixtures("heeds_hang_ups")
@pytest.mark.parametrize(
    ("step", "number"), [(1, signal.SIGINT), (4, signal.SIGTERM), (7, signal.SIGHUP)], ids=["1", "4", "7"]
)
@pytest.mark.parametrize("config", [RICH, replace(SMALL, weighting="uncertainty"), replace(SMALL, weighting="balance")])
def test_a_stopped_run_goes_on_to_the_same_weights(run, tmp_path, monkeypatch, step, number, config):
    straight, output = tmp_path / "straight.safetensors", tmp_path / "student.safetensors"
    run(straight, config)
    state, _ = beside(output)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with monkeypatch.context() as patch:
        stop_after(patch, step, number)
        assert run(output, config) is None
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    assert state.exists()
    assert not output.exists()
    assert len(rows_of(output)) == step
    assert run(output, config) is not None
    assert not state.exists()
    assert_same_weights(straight, output)
    assert rows_of(output) == rows_of(straight)


def test_a_run_that_was_cut_off_goes_on_from_its_last_save(straight, run, tmp_path, monkeypatch):
    output = tmp_path / "student.safetensors"
    original = Trainer.launch

    def launch(trainer, count):
        if trainer.step == 5:
            raise KeyboardInterrupt
        original(trainer, count)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "launch", launch)
        with pytest.raises(KeyboardInterrupt):
            run(output, save_every=3)
    assert len(rows_of(output)) == 3
    run(output)
    assert_same_weights(straight, output)
    assert rows_of(output) == rows_of(straight)


def start(command):
    return subprocess.Popen(
        [sys.executable, "-m", "irvis.runtime.cli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_steps(process, output, count):
    """Wait until a command has saved that many steps."""
    table = beside(output)[1]
    while not table.exists() or len(rows_of(output)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_a_killed_command_goes_on_from_its_last_save(samples, tmp_path):
    outputs = [tmp_path / name / "student.safetensors" for name in ("killed", "straight")]
    commands = [
        ["train", str(samples), "-o", str(output), "--steps", "60", "--save-every", "5", "--ema", "0.9", *OPTIONS]
        for output in outputs
    ]
    process = start(commands[0])
    try:
        wait_for_steps(process, outputs[0], 10)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not outputs[0].exists()
    assert beside(outputs[0])[0].exists()
    assert main(commands[0]) == main(commands[1]) == 0
    assert_same_weights(*outputs)
    assert rows_of(outputs[0]) == rows_of(outputs[1])


def test_a_second_run_of_the_same_output_is_refused_and_the_first_goes_on(samples, tmp_path, capfd):
    output = tmp_path / "student.safetensors"
    command = ["train", str(samples), "-o", str(output), "--steps", "100", "--save-every", "1", *OPTIONS]
    process = start(command)
    try:
        wait_for_steps(process, output, 1)
        assert main(command) == 1
        process.communicate(timeout=300)
    finally:
        process.kill()
    refusal = f"irvis train: another process is writing {output}; wait for it, or choose another output\n"
    assert capfd.readouterr().err == refusal
    assert process.returncode == 0
    assert len(rows_of(output)) == 100
    assert not output.with_name(output.name + ".lock").exists()


def test_ctrl_c_on_the_command_leaves_a_state_that_goes_on(samples, tmp_path, capfd):
    steps = 150
    outputs = [tmp_path / name / "student.safetensors" for name in ("stopped", "straight")]
    options = ["--steps", str(steps), "--save-every", "1", *OPTIONS]
    commands = [["train", str(samples), "-o", str(output), *options] for output in outputs]
    process = start(commands[0])
    try:
        wait_for_steps(process, outputs[0], 1)
        process.send_signal(signal.SIGINT)
        said, trouble = process.communicate(timeout=300)
    finally:
        process.kill()
    state, _ = beside(outputs[0])
    assert process.returncode == 130, trouble
    assert b"Traceback" not in trouble
    assert said.decode() == f"stopped; run the same command again to resume from {state}\n"
    assert state.exists()
    assert not outputs[0].exists()
    assert 1 <= len(rows_of(outputs[0])) < steps
    assert main(commands[0]) == main(commands[1]) == 0
    assert_same_weights(*outputs)
    assert capfd.readouterr().out == f"wrote {outputs[0]}\nwrote {outputs[1]}\n"


def test_under_nohup_a_terminal_that_goes_stops_no_training(pairs, tmp_path, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop_after(monkeypatch, 2, signal.SIGHUP)
        assert train(pairs, tmp_path / "s.safetensors", SMALL, options=RunOptions(tensorboard=False)) is not None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeds_hang_ups")
def test_a_terminal_that_goes_leaves_a_state_that_goes_on(samples, tmp_path):
    """As an ssh that is cut does: the hang-up, and nothing can be written to the terminal any more."""
    outputs = [tmp_path / name / "student.safetensors" for name in ("stopped", "straight")]
    commands = [["train", str(samples), "-o", str(output), "--steps", "150", *OPTIONS] for output in outputs]
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [sys.executable, "-m", "irvis.runtime.cli", *commands[0]])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # in one of no lines there is no bar
    shown = b""
    while not re.search(rb"training:.* [1-9]\d*/150 ", shown):
        shown += os.read(terminal, 1000)
    os.close(terminal)
    limit_s = time.monotonic() + 120
    ended = status = 0
    while not ended:
        if time.monotonic() > limit_s:
            os.kill(child, signal.SIGKILL)
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.05)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) == 130
    assert beside(outputs[0])[0].exists()
    assert 1 <= len(rows_of(outputs[0])) < 150
    assert main(commands[0]) == main(commands[1]) == 0
    assert_same_weights(*outputs)


def test_two_processes_give_the_losses_of_one(samples, tmp_path):
    """DDP over gloo by torchrun, the batch shared out; equal but for the order of sums in float32."""
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    folder = tmp_path / "labelled"
    for half in ("ir", "vi"):
        shutil.copytree(samples / half, folder / half)
    (folder / "labels").mkdir()
    boxes = "".join(f"1 0.{x} 0.{y} 0.05 0.06\n" for x in range(1, 10) for y in range(1, 10))
    for path in (folder / "ir").iterdir():
        (folder / "labels" / f"{path.stem}.txt").write_text(boxes)
    shutil.copy(samples / "ir" / "street.png", folder / "ir" / "lonely.png")
    joint = ["--downstream", "boxes=2", "--downstream-weight", "0.5"]
    options = ["train", str(folder), "--steps", "6", "--augment", "--correlation", "1", *joint, *OPTIONS]
    assert main([*options, "-o", str(alone)]) == 0
    torchrun = "torch.distributed.run --standalone --nproc-per-node 2 -m irvis.runtime.cli".split()
    command = [sys.executable, "-m", *torchrun, *options, "-o", str(together), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1
    assert done.stderr.count("have no partner") == 1
    assert "Grad strides" not in done.stderr
    for one, other in zip(rows_of(alone), rows_of(together)):
        for name, value in one.items():
            assert float(other[name]) == pytest.approx(float(value), rel=2e-4, abs=1e-7), name
    for suffix in ("", ".downstream.safetensors"):
        one, other = (load_file(path.with_name(path.name + suffix)) for path in (alone, together))
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, rtol=0, atol=5e-4)


CHAINED = """
import sys
from irvis.runtime.cli import main
from irvis.student.recipes import RECIPES, Recipe, TrainConfig
small = dict(crops=8, crop_side=16, batch=2, learning_rate=1e-3, warmup=0.0)
RECIPES["first"] = Recipe("", TrainConfig(steps=3, **small))
RECIPES["second"] = Recipe("", TrainConfig(steps=4, seed=5, **small), base="first")
sys.exit(main(sys.argv[1:]))
"""


def on_two_machines(folders, commands):
    """Run a command in each folder, as on two machines that share none; give each exit code and what was printed."""
    # The store that both meet at is held open here, as by torchrun: a port that is only found to be free may be another
    # program's by the time that rank 0 has imported PyTorch and listens to it.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    place.update({"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"})
    started = []
    for rank, (folder, command) in enumerate(zip(folders, commands)):
        told = {"RANK": str(rank), "WORLD_SIZE": "2", **place}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        whole = [sys.executable, "-c", CHAINED, *command, "--device", "cpu"]
        started.append(subprocess.Popen(whole, cwd=folder, env={**os.environ, **told}, **pipes))
    try:
        printed = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *each) for process, each in zip(started, printed)]


def interrupted_at(number):
    """Return a Trainer.launch before whose call of that number, over all trainers, Ctrl-C is pressed."""
    taken = []
    original = Trainer.launch

    def launch(trainer, count):
        taken.append(trainer)
        if len(taken) == number:
            signal.raise_signal(signal.SIGINT)
        original(trainer, count)

    return launch


@pytest.mark.parametrize("step", [2, 5], ids=["the base", "the student"])
def test_a_run_goes_on_with_a_second_machine_that_has_none_of_its_files(samples, tmp_path, chained, monkeypatch, step):
    """Only the pairs and the teachers are on both: the state and the base come from the first, the cache is made."""
    folders = [tmp_path / name for name in ("straight", "one", "two")]
    for folder in folders:
        folder.mkdir()
    recipe = ["--recipe", "second", "--teacher", "fast", "--cache", "cache", "--no-tensorboard"]
    command = ["train", str(samples), "-o", "s.safetensors", *recipe]
    with monkeypatch.context() as patch:
        patch.chdir(folders[0])
        assert main(command) == 0
        patch.chdir(folders[1])
        patch.setattr(Trainer, "launch", interrupted_at(step))
        assert main(command) == 130
    (code, said, trouble), (other, *rest) = on_two_machines(folders[1:], [command, command])
    assert (code, other) == (0, 0), [trouble, rest]
    assert said == "wrote s.safetensors\n"
    assert (folders[2] / "cache").is_dir()
    assert {path.name for path in folders[2].iterdir()} == {"cache", "s.safetensors.first.safetensors"}
    straight, output = folders[0] / "s.safetensors", folders[1] / "s.safetensors"
    assert [row["step"] for row in rows_of(output)] == ["1", "2", "3", "4"]
    for one, row in zip(rows_of(straight), rows_of(output)):
        assert float(row["loss"]) == pytest.approx(float(one["loss"]), rel=2e-4)
    wanted, found = load_student(straight).state_dict(), load_student(output).state_dict()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    ("one", "two", "said"),
    [
        ("pairs", "others", "process 1 has other pairs than the first; give every machine the same files and the same"),
        ("pairs", "none", "folder not found: none"),
    ],
    ids=["other pairs", "no pairs"],
)
def test_a_second_machine_that_cannot_take_part_ends_both_in_one_line(samples, tmp_path, one, two, said):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        shutil.copytree(samples, folder / "pairs")
        write_samples(folder / "others", 100, 120)
    commands = [["train", pairs, "-o", "s.safetensors", "--steps", "2", *OPTIONS] for pairs in (one, two)]
    for code, printed, trouble in on_two_machines(folders, commands):
        assert code == 1
        assert printed == ""
        assert "Traceback" not in trouble
        assert f"irvis train: {said}" in trouble.replace("\r", "\n").strip().splitlines()[-1]
    assert not (tmp_path / "one" / "s.safetensors").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "cannot join the 2 processes of WORLD_SIZE: .*MASTER_ADDR"),
        ({"RANK": "first"}, "RANK in the environment must be a number. Got 'first'"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK in the environment must be a number. Got '-1'"),
        ({"RANK": "1"}, "RANK must be below WORLD_SIZE. Got 1 and 1"),
        ({"RANK": "3", "WORLD_SIZE": "2"}, "RANK must be below WORLD_SIZE. Got 3 and 2"),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "LOCAL_RANK 1 needs a GPU of its own, and PyTorch sees 1"),
    ],
)
def test_an_environment_that_describes_no_run_is_one_line(samples, tmp_path, capsys, monkeypatch, given, said):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "LOCAL_RANK" in given)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main(["train", str(samples), "-o", str(tmp_path / "s.safetensors"), *OPTIONS]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(said, line)
    assert "torchrun --nproc-per-node N -m irvis.runtime.cli train" in line


def test_a_process_whose_first_one_does_not_start_ends_in_one_line(samples, tmp_path, capsys, monkeypatch):
    """As without torchrun, where the first cannot listen at the port."""
    monkeypatch.setattr(distributed, "MEETING", timedelta(seconds=2))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    told = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert main(["train", str(samples), "-o", str(tmp_path / "s.safetensors"), "--device", "cpu", *OPTIONS]) == 1
    assert last_line(capsys).startswith("irvis train: cannot join the 2 processes of WORLD_SIZE: ")


def test_going_on_with_other_pairs_is_refused(pairs, samples, tmp_path, monkeypatch):
    options = RunOptions(tensorboard=False)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert train(pairs, tmp_path / "s.safetensors", SMALL, options=options) is None
    write_samples(tmp_path / "others", 100, 120)
    with pytest.raises(FileError, match="was made with other pairs"):
        train(pairs_of(tmp_path / "others"), tmp_path / "s.safetensors", SMALL, options=options)


def test_going_on_with_another_teacher_is_refused(pairs, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert run(tmp_path / "s.safetensors", SMALL) is None
    trained_anew = Second()
    trained_anew.digest = "2" * 64
    for teachers in ([Toy()], [Toy(), trained_anew]):
        with pytest.raises(FileError, match="was made with other teachers"):
            train(pairs, tmp_path / "s.safetensors", SMALL, teachers=teachers, options=RunOptions(tmp_path))


def test_going_on_with_other_options_or_from_another_file_is_refused(pairs, samples, tmp_path, monkeypatch, capsys):
    output = tmp_path / "student.safetensors"
    state, _ = beside(output)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert main(["train", str(samples), "-o", str(output), "--steps", "10", *OPTIONS]) == 130
    before = state.read_bytes()
    assert main(["train", str(samples), "-o", str(output), "--steps", "11", *OPTIONS]) == 1
    assert "was made with other options: --steps 10; give the same" in last_line(capsys)
    assert state.read_bytes() == before
    for content in (b"", b"no state", before[: len(before) // 2]):
        state.write_bytes(content)
        assert main(["train", str(samples), "-o", str(output), "--steps", "10", *OPTIONS]) == 1
        assert f"not the state of a training run: {state}" in last_line(capsys)
    torch.save([1, 2], state)
    with pytest.raises(FileError, match="not the state of a training run"):
        train(pairs, output, SMALL, options=RunOptions(tensorboard=False))


def test_a_loss_that_is_not_finite_ends_the_run_and_writes_no_weights(samples, tmp_path, capsys):
    options = ["--learning-rate", "1e30", "--learning-rate-start", "1e30"]
    output = tmp_path / "student.safetensors"
    assert main(["train", str(samples), "-o", str(output), "--steps", "9", *OPTIONS, *options]) == 1
    assert re.search(r"the loss is \w+ at step \d, on crops \d, \d; lower --learning-rate$", last_line(capsys))
    assert [path.suffix for path in tmp_path.iterdir()] == []


def test_a_last_step_that_spoils_the_weights_writes_none_and_leaves_the_state_of_before(pairs, tmp_path, monkeypatch):
    output = tmp_path / "student.safetensors"
    options = RunOptions(tensorboard=False, save_every=1)
    original = Trainer.launch

    def launch(trainer, count):
        original(trainer, count)
        if trainer.step == 3:  # as a gradient of NaN does, after a loss that is finite
            with torch.no_grad():
                trainer.student.decoder.conv2.bias[0] = float("nan")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "launch", launch)
        with pytest.raises(IrvisError, match=r"step 3 made weights NaN or infinite; lower --learning-rate$"):
            train(pairs, output, replace(SMALL, steps=3), options=options)
    assert not output.exists()
    assert [row["step"] for row in rows_of(output)] == ["1", "2"]
    assert train(pairs, output, replace(SMALL, steps=3), options=options) is not None
    assert all(tensor.isfinite().all() for tensor in load_student(output).state_dict().values())


@pytest.mark.parametrize("name", ["s.pt", "student"])
def test_an_output_that_other_commands_would_refuse_is_refused_before_training(samples, tmp_path, capsys, name):
    assert main(["train", str(samples), "-o", str(tmp_path / name), "--steps", "1", *OPTIONS]) == 1
    said = f"irvis train: --output must end in .safetensors, as other commands expect. Got {tmp_path / name}\n"
    assert capsys.readouterr().err == said
    assert not list(tmp_path.iterdir())


def test_compiling_without_a_compiler_is_one_line(samples, tmp_path, capsys, monkeypatch):
    exceptions = pytest.importorskip("torch._inductor.exc")

    def step(trainer):
        raise exceptions.InvalidCxxCompiler()

    monkeypatch.setattr(Trainer, "_take_step", step)
    output = tmp_path / "s.safetensors"
    assert main(["train", str(samples), "-o", str(output), "--steps", "1", "--compile", *OPTIONS]) == 1
    wanted = "--compile needs a C++ compiler, and PyTorch finds none that works; install g++ or leave --compile out"
    assert last_line(capsys).endswith(f"irvis train: {wanted}")


@pytest.mark.parametrize("words", ["C++ compile error", "the C++ compiler was killed"])
def test_ctrl_c_that_ends_the_compiler_too_is_no_failure(samples, tmp_path, capsys, monkeypatch, words):
    def step(trainer):
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError(words)

    monkeypatch.setattr(Trainer, "_take_step", step)
    command = ["train", str(samples), "-o", str(tmp_path / "s.safetensors"), "--steps", "1", *OPTIONS]
    assert main([*command, "--compile"]) == 130
    assert last_line(capsys).endswith("irvis train: interrupted")
    with pytest.raises(RuntimeError, match="compile"):
        main(command)


def test_a_run_can_start_from_a_checkpoint(straight, pairs, tmp_path):
    output = tmp_path / "s.safetensors"
    still = replace(SMALL, steps=1, learning_rate=1e-12, learning_rate_start=1e-12, learning_rate_end=1e-12)
    train(pairs, output, still, init=straight, options=RunOptions(tensorboard=False))
    wanted, found = load_student(straight).state_dict(), load_student(output).state_dict()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-10)
    assert read_metadata(output)["training"].count('"init": ""') == 0


def test_what_was_trained_is_not_written_over(samples, tmp_path, capsys):
    output = tmp_path / "s.safetensors"
    command = ["train", str(samples), "-o", str(output), "--steps", "1", *OPTIONS]
    assert main(command) == 0
    trained = output.read_bytes()
    capsys.readouterr()
    assert main([*command, "--seed", "1"]) == 1
    said = f"irvis train: {output} already exists; remove it to train anew, or give another --output\n"
    assert capsys.readouterr().err == said
    assert output.read_bytes() == trained


@pytest.mark.parametrize(
    ("options", "strides"),
    [([], (1, 1)), (["--fusion-stride", "2"], (1, 2)), (["--recipe", "fast", "--global-stride", "4"], (4, 2))],
)
def test_strides_are_the_recipes_or_those_given(samples, tmp_path, capsys, options, strides):
    output = tmp_path / "s.safetensors"
    options = [*options, "--cache", str(tmp_path / "cache")]
    assert main(["train", str(samples), "-o", str(output), "--steps", "1", *OPTIONS, *options]) == 0
    config = load_student(output).config
    assert (config.global_stride, config.fusion_stride) == strides
    again = tmp_path / "again.safetensors"
    command = ["train", str(samples), "-o", str(again), "--init", str(output), "--steps", "1", *OPTIONS]
    assert main([*command, "--global-stride", "8"]) == 0
    config = load_student(again).config
    assert (config.global_stride, config.fusion_stride) == (8, strides[1])
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--global-stride", "3"])
    assert "--global-stride: invalid choice: 3" in capsys.readouterr().err


def test_a_bad_validation_image_is_told_before_anything_is_trained(samples, tmp_path, capsys):
    shutil.copytree(samples, tmp_path / "held_out")
    bad = tmp_path / "held_out" / "vi" / "street.png"
    bad.write_bytes(bad.read_bytes()[:-100])
    output = tmp_path / "s.safetensors"
    assert main(["train", str(samples), "-o", str(output), "--validation", str(tmp_path / "held_out"), *OPTIONS]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(bad) in line
    assert [path.name for path in tmp_path.iterdir()] == ["held_out"]


def test_validation_leaves_a_table_a_picture_and_tensorboard_events(samples, tmp_path, capsys):
    pytest.importorskip("tensorboard")
    output = tmp_path / "s.safetensors"
    options = [option for option in OPTIONS if option != "--no-tensorboard"]
    validation = ["--validation", str(samples), "--validation-pairs", "2", "--validate-every", "3"]
    assert main(["train", str(samples), "-o", str(output), "--steps", "7", *options, *validation]) == 0
    with output.with_name(output.name + ".validation.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["3", "6", "7"]
    assert all(-1 <= float(row["CC"]) <= 1 for row in rows)
    assert read_image(output.with_name(output.name + ".jpg")).shape[1] == 1600
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output.with_name(output.name + ".tensorboard"))).Reload()
    logged = [float(event.value) for event in events.Scalars("train/loss")]
    assert logged == pytest.approx([float(row["loss"]) for row in rows_of(output)], rel=1e-6)
    assert len(events.Images("validation")) == 3


class Counter:
    """Stands in for a trainer on a GPU."""

    step, config = 0, SimpleNamespace(steps=70)
    among = SimpleNamespace(device=SimpleNamespace(type="cuda"), any=bool)

    def __init__(self):
        self.best, self.launched, self.saved = object(), [], []

    def launch(self, count):
        self.launched.append(count)

    def read(self):
        before, self.step = self.step, self.step + self.launched[-1]
        return [{"step": step, "loss": 0.5} for step in range(before + 1, self.step + 1)]

    def save(self, path):
        self.saved.append(self.step)


def test_on_a_gpu_losses_are_read_now_and_then_and_wherever_the_best_is_saved_or_validated(tmp_path, monkeypatch):
    output, trainer, validated = tmp_path / "s.safetensors", Counter(), []

    def validate(student, pairs):
        validated.append((trainer.step, student is trainer.best))
        return {"CC": 0.5}, np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr("irvis.student.train.validate", validate)
    options = RunOptions(save_every=30, validate_every=40, validation=[None])
    assert _loop(trainer, RunLog(output, 0, False), tmp_path / "state", options)
    assert trainer.launched == [25, 5, 10, 10, 10, 10]
    assert trainer.saved == [30, 60, 70]
    assert validated == [(40, True), (70, True)]
    assert [int(row["step"]) for row in rows_of(output)] == list(range(1, 71))


def test_a_student_that_makes_negatives_is_warned_of_and_written_all_the_same(pairs, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("irvis.student.train.why_not_to_use", lambda student, crops: f"negatives of {len(crops)}")
    train(pairs, tmp_path / "student.safetensors", SMALL, options=RunOptions(tensorboard=False))
    assert "negatives of 8" in caplog.text
    assert (tmp_path / "student.safetensors").exists()


def test_validation_pairs_that_are_trained_on_are_warned_of(pairs, tmp_path, caplog):
    few, others = replace(SMALL, steps=1), tmp_path / "others"
    write_samples(others, 96, 128)
    again = pairs[1]._replace(visible=Path(os.path.relpath(pairs[1].visible)))
    for held_out, said in ((pairs_of(others), 0), ([*pairs_of(others), again], 1)):
        options = RunOptions(validation=held_out, tensorboard=False)
        train(pairs, tmp_path / f"{said}.safetensors", few, options=options)
        assert caplog.text.count("1 of the 4 validation pairs are also trained on") == said


def test_a_new_run_of_the_same_output_leaves_no_validation_of_the_one_before(samples, tmp_path):
    output = tmp_path / "s.safetensors"
    command = ["train", str(samples), "-o", str(output), "--steps", "2", *OPTIONS]
    beside = [output.with_name(output.name + suffix) for suffix in (".validation.csv", ".jpg")]
    assert main([*command, "--validation", str(samples), "--validation-pairs", "1"]) == 0
    assert [path.exists() for path in beside] == [True, True]
    output.unlink()
    assert main(command) == 0
    assert [path.exists() for path in beside] == [False, False]


def test_a_resumed_run_keeps_the_validation_of_its_first_part(pairs, tmp_path, monkeypatch):
    output = tmp_path / "s.safetensors"
    options = RunOptions(tensorboard=False, validation=pairs[:1], validate_every=2)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert train(pairs, output, SMALL, options=options) is None
    train(pairs, output, SMALL, options=options)
    with output.with_name(output.name + ".validation.csv").open(newline="") as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["2", "4", "6", "8", "10"]


def test_two_equal_runs_write_the_same_bytes(straight, run, tmp_path):
    for name in "abc":
        run(tmp_path / f"{name}.safetensors")
        assert (tmp_path / f"{name}.safetensors").read_bytes() == straight.read_bytes()


def test_a_resumed_run_repeats_no_row_of_its_table(run, straight, tmp_path, monkeypatch):
    output = tmp_path / "student.safetensors"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(output) is None
    with beside(output)[1].open("a") as stream:
        stream.write("5,0.1,0.2\n99,1")  # of steps after the save, the last one cut short
    run(output)
    assert rows_of(output) == rows_of(straight)


def passed_to_train(monkeypatch, *arguments):
    """Return what ``irvis train`` gives to ``train``, by place and by name."""
    given = []
    with monkeypatch.context() as patch:
        patch.setattr("irvis.student.train.train", lambda *by_place, **by_name: given.append((by_place, by_name)))
        assert main(["train", *map(str, arguments)]) == 130
    return given[0]


def test_how_a_run_goes_is_as_the_command_says(samples, pairs, tmp_path, monkeypatch):
    trained = []

    def refuse(*_, **given):
        trained.append([given[name] for name in ("amp", "compiled", "graph")])
        raise IrvisError("enough")

    words = "--amp on --compile --no-graph --no-tensorboard --save-every 7 --validate-every 5 --validation-pairs 2"
    folders = ["--cache", str(tmp_path), "--validation", str(samples), "-o", str(tmp_path / "s.safetensors")]
    _, by_name = passed_to_train(monkeypatch, samples, *words.split(), *folders)
    assert by_name["options"] == RunOptions(tmp_path, 7, [pairs[0], pairs[-1]], 5, True, True, False, False)
    monkeypatch.setattr("irvis.student.train.Trainer", refuse)
    for amp in (None, True, False):
        with pytest.raises(IrvisError, match="enough"):
            train(pairs, tmp_path / "s.safetensors", SMALL, options=RunOptions(amp=amp, compiled=True, graph=False))
    assert trained == [[False, True, False], [True, True, False], [False, True, False]]


def test_a_command_that_names_pairs_alone_is_the_papers_run(samples, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_place, by_name = passed_to_train(monkeypatch, samples, "--validation", samples)
    assert by_place == (pairs, Path("student.safetensors"), TrainConfig())
    assert by_name["options"] == RunOptions(validation=pairs)
    copies = [shutil.copytree(samples, tmp_path / name) for name in "ab"]
    folders = ["--infrared", copies[1] / "ir", "--visible", copies[1] / "vi"]
    found = passed_to_train(monkeypatch, samples, copies[0], *folders)[0][0]
    assert found == [*pairs, *pairs_of(copies[0]), *pairs_of(copies[1])]


@pytest.mark.parametrize(
    ("options", "local", "device"), [([], None, "cuda:0"), ([], "1", "cuda:1"), (["--device", "cpu"], "1", "cpu")]
)
def test_each_process_has_a_gpu_of_its_own_unless_the_cpu_is_asked_for(
    samples, tmp_path, monkeypatch, options, local, device
):
    for name, given in {"is_available": True, "device_count": 2, "set_device": None}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, given=given: given)
    if local:
        monkeypatch.setenv("LOCAL_RANK", local)
    _, by_name = passed_to_train(monkeypatch, samples, "-o", tmp_path / "s.safetensors", *options)
    assert by_name["among"].device == torch.device(device)


def test_a_gpu_that_is_not_there_is_said(samples, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["train", str(samples), "--device", "cuda"]) == 1
    said = "irvis train: --device cuda: PyTorch sees no CUDA device; use --device cpu\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--steps", "0"),
        ("--batch", "0"),
        ("--crops", "1"),
        ("--crop-side", "15"),
        ("--seed", "-1"),
        ("--seed", "99999999999999999999"),
        ("--epochs", "0"),
        ("--learning-rate", "0"),
        ("--learning-rate", "nan"),
        ("--learning-rate-end", "1"),
        ("--beta-grad", "-1"),
        ("--lambda-sim", "nan"),
        ("--warmup", "2"),
        ("--rise", "-1"),
        ("--ema", "1"),
        ("--weighting", "none"),
        ("--teacher-weighting", "none"),
        ("--save-every", "0"),
        ("--validate-every", "0"),
        ("--validation-pairs", "0"),
    ],
)
def test_senseless_options_are_refused_in_one_line(samples, tmp_path, capsys, option, value):
    assert main(["train", str(samples), "-o", str(tmp_path / "s.safetensors"), "--batch", "2", option, value]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"irvis train: {option} must be ")
    assert "Got " in lines[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--weighting", "dwa"], "--weighting and --teacher-weighting need a teacher; give --teacher"),
        (["--infrared", "."], "--infrared and --visible go together"),
        (["--visible", ".", "--steps", "1"], "--infrared and --visible go together"),
        (["--epochs", "1", "--steps", "1"], "give --epochs or --steps, not both"),
        (["--init", "none.safetensors"], "checkpoint not found: none.safetensors"),
        (["--teacher", "Nobody=x.pth"], "no published network is called Nobody"),
    ],
)
def test_options_that_do_not_fit_are_one_line(samples, tmp_path, capsys, options, said):
    assert main(["train", str(samples), "-o", str(tmp_path / "s.safetensors"), *OPTIONS, *options]) == 1
    assert said in last_line(capsys)


def test_nothing_to_train_on_is_said(capsys):
    assert main(["train"]) == 1
    assert "nothing to train on" in capsys.readouterr().err


def test_pairs_given_twice_by_any_name_are_refused(samples, tmp_path, capsys):
    (tmp_path / "link").symlink_to(samples)
    halves = ["--infrared", f"{samples}/ir", "--visible", f"{samples}/vi"]
    for again in ([f"{samples}/"], [str(tmp_path / "link")], halves):
        assert main(["train", str(samples), *again, "-o", str(tmp_path / "s.safetensors"), *OPTIONS]) == 1
        said = f"irvis train: the pairs of {samples / 'ir'} are given twice; give each folder once\n"
        assert capsys.readouterr().err == said


def test_two_folders_are_a_data_set_too_and_an_epoch_counts_the_crops(samples, tmp_path):
    output = tmp_path / "s.safetensors"
    folders = ["--infrared", str(samples / "ir"), "--visible", str(samples / "vi")]
    assert main(["train", *folders, "-o", str(output), "--epochs", "2", *OPTIONS, "--crops", "7"]) == 0
    assert len(rows_of(output)) == 6  # a last crop fills no batch


def test_an_output_that_cannot_be_written_is_said_before_training(samples, tmp_path, capsys):
    assert main(["train", str(samples), "-o", str(tmp_path), *OPTIONS]) == 1
    assert capsys.readouterr().err == f"irvis train: cannot write {tmp_path}: it is a folder\n"
    for output, told in {"": ".", "/": "/"}.items():  # as from a shell variable that is not set
        assert main(["train", str(samples), "-o", output, *OPTIONS]) == 1
        assert capsys.readouterr().err == f"irvis train: cannot write {told}: it is a folder\n"


def test_no_file_beside_the_output_takes_the_place_of_an_input(samples, tmp_path, capsys):
    """A run removes OUTPUT.jpg of a run before it: it must not be an image to train on."""
    folder = tmp_path / "pairs"
    for half in ("ir", "vi"):
        for pair in pairs_of(samples):
            write_image(folder / half / f"{pair.name}.jpg", read_image(pair.visible))
    image = folder / "ir" / "street.jpg"
    before = image.read_bytes()
    assert main(["train", str(folder), "-o", str(image.with_suffix("")), "--steps", "1", *OPTIONS]) == 1
    assert last_line(capsys) == f"irvis train: {image} would overwrite an input; give another name"
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value"), [("--init", "{}"), ("--teacher", "{}"), ("--teacher", "SHIP={}"), ("--downstream", "boxes={}")]
)
def test_the_output_is_no_other_file_that_the_command_names(straight, samples, tmp_path, capsys, option, value):
    output = tmp_path / "s.safetensors"
    shutil.copy(straight, output)
    assert main(["train", str(samples), "-o", str(output), *OPTIONS, option, value.format(output)]) == 1
    assert last_line(capsys) == f"irvis train: {output} would overwrite an input; give another name"


def test_no_file_beside_the_output_takes_the_place_of_an_initial_student_or_of_a_pair_to_validate_on(
    straight, pairs, tmp_path
):
    output = tmp_path / "s.safetensors"
    init, picture = tmp_path / "s.safetensors.downstream.safetensors", tmp_path / "s.safetensors.jpg"
    shutil.copy(straight, init)
    write_image(picture, read_image(pairs[0].visible))
    options = RunOptions(tensorboard=False, validation=[pairs[0]._replace(visible=picture)])
    for path, given in ((init, {"init": init}), (picture, {"options": options})):
        with pytest.raises(FileError, match=f"^{re.escape(str(path))} would overwrite an input"):
            train(pairs, output, SMALL, **given)


def test_missing_pairs_are_one_line(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none"), "-o", str(tmp_path / "s.safetensors"), *OPTIONS]) == 1
    assert capsys.readouterr().err == f"irvis train: folder not found: {tmp_path / 'none'}\n"


@pytest.fixture
def chained(monkeypatch):
    """A recipe that starts from what another recipe gives."""
    monkeypatch.setitem(RECIPES, "first", Recipe("", replace(SMALL, steps=3)))
    monkeypatch.setitem(RECIPES, "second", Recipe("", replace(SMALL, steps=4, seed=5), base="first"))


def test_a_recipe_trains_what_it_starts_from_first(samples, tmp_path, chained):
    output, base, second = (tmp_path / name for name in ("s.safetensors", "base.safetensors", "again.safetensors"))
    command = ["train", str(samples), "--no-tensorboard"]
    assert main([*command, "-o", str(output), "--recipe", "second"]) == 0
    assert main([*command, "-o", str(base), "--recipe", "first"]) == 0
    assert_same_weights(base, tmp_path / "s.safetensors.first.safetensors")
    assert main([*command, "-o", str(second), "--recipe", "second", "--init", str(base)]) == 0
    assert_same_weights(output, second)
    assert not (tmp_path / "again.safetensors.first.safetensors").exists()
    assert len(rows_of(output)) == 4


def training_of(path):
    return json.loads(read_metadata(path)["training"])


def test_what_a_recipe_starts_from_has_its_seed_and_its_crops(samples, tmp_path, chained, capsys):
    output, base = tmp_path / "s.safetensors", tmp_path / "s.safetensors.first.safetensors"
    command = ["train", str(samples), "--no-tensorboard", "-o", str(output), "--recipe", "second"]
    assert main([*command, "--seed", "7", "--crops", "6", "--crop-side", "24", "--steps", "2"]) == 0
    for path, steps in ((base, 3), (output, 2)):
        training = training_of(path)
        assert [training[name] for name in ("seed", "crops", "crop_side", "steps")] == [7, 6, 24, steps]
    assert training_of(base)["crops_sha256"] == training_of(output)["crops_sha256"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], None),
        (["--seed", "7"], "seed 0"),
        (["--crops", "6", "--crop-side", "24"], "crops 8, crop_side 16"),
    ],
)
def test_what_another_run_left_is_not_started_from(samples, tmp_path, chained, capsys, options, said):
    output = tmp_path / "s.safetensors"
    base = output.with_name(f"{output.name}.first.safetensors")
    command = ["train", str(samples), "--no-tensorboard", "-o", str(output), "--recipe", "second"]
    assert main(command) == 0
    left = base.read_bytes()
    output.unlink()
    assert main([*command, *options]) == int(said is not None)
    assert base.read_bytes() == left
    if said:
        refusal = f"irvis train: {base} was trained with {said}; remove it, or give another --output"
        assert last_line(capsys) == refusal


@pytest.mark.parametrize(("step", "of"), [(2, ".first.safetensors"), (5, "")], ids=["the base", "the student"])
def test_a_chained_recipe_goes_on_in_either_run(samples, tmp_path, chained, monkeypatch, capsys, step, of):
    output, straight = tmp_path / "s.safetensors", tmp_path / "straight.safetensors"
    command = ["train", str(samples), "--no-tensorboard", "--recipe", "second", "-o"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "launch", interrupted_at(step))
        assert main([*command, str(output)]) == 130
    assert capsys.readouterr().out == f"stopped; run the same command again to resume from {output}{of}.state\n"
    assert main([*command, str(output)]) == main([*command, str(straight)]) == 0
    assert_same_weights(output, straight)


def test_a_recipe_says_which_teachers_it_lacks(samples, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "taught", Recipe("", SMALL, teachers=("SHIP", "mine", "PFCFuse")))
    save_student(tmp_path / "mine.safetensors", Student())
    command = ["train", str(samples), "-o", str(tmp_path / "s.safetensors"), "--recipe", "taught"]
    assert main([*command, "--teacher", str(tmp_path / "mine.safetensors")]) == 1
    wanted = "learns from SHIP, PFCFuse too; give --teacher SHIP=WEIGHTS --teacher PFCFuse=WEIGHTS"
    assert wanted in last_line(capsys)


def test_the_fast_recipe_starts_from_and_learns_from_the_shipped_student_or_what_was_given(samples, tmp_path):
    shipped, mine = find_model("student", ".safetensors"), tmp_path / "mine.safetensors"
    command = ["train", str(samples), "--cache", str(tmp_path / "cache"), "--steps", "1", *OPTIONS, "--recipe", "fast"]
    save_student(mine, Student())
    for options, teacher, init in (
        ([], "student", shipped),
        (["--teacher", str(mine), "--init", "fast"], "mine", find_model("fast", ".safetensors")),
    ):
        output = tmp_path / f"taught-by-{teacher}.safetensors"
        assert main([*command, "-o", str(output), *options]) == 0
        training = json.loads(read_metadata(output)["training"])
        assert list(training["teachers"]) == [teacher]
        assert training["init"] == sha256(init)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_asked_for(name):
    recipe, parser = RECIPES[name], argparse.ArgumentParser()
    add_arguments(parser)
    assert config_of(parser.parse_args(["--recipe", name])) == recipe.config
    assert recipe.summary
    assert recipe.base is None or recipe.base in RECIPES
    assert set(recipe.teachers) <= {*MODULES, *NAMES}
    assert recipe.init is None or recipe.init in NAMES


def test_the_shipped_recipe_is_what_the_shipped_student_was_made_by():
    training, recipe = training_of(find_model("student", ".safetensors")), RECIPES["shipped"]
    for name, value in asdict(recipe.config).items():
        assert training[name] == value, name
    assert sorted(training["teachers"]) == sorted(recipe.teachers)
    assert recipe.base
    fast = load_student(find_model("fast", ".safetensors")).config
    assert {name: getattr(fast, name) for name in RECIPES["fast"].strides} == RECIPES["fast"].strides
    assert (fast.global_stride, fast.fusion_stride) != (1, 1)
