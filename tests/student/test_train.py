import csv
import re
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import chain

import pytest

torch = pytest.importorskip("torch")

from irvis.runtime.cli import main
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.samples import write_samples
from irvis.student.checkpoint import load_student, read_metadata
from irvis.student.datasets import draw_crops
from irvis.student.train import TrainConfig, Trainer, train

SMALL = TrainConfig(crops=8, crop_side=16, batch=2, steps=10, learning_rate=1e-3)
OPTIONS = "--crops 8 --crop-side 16 --batch 2 --learning-rate 1e-3".split()


@pytest.fixture(scope="module")
def straight(samples, tmp_path_factory):
    """The output of a run of SMALL that nothing stopped."""
    output = tmp_path_factory.mktemp("straight") / "student.safetensors"
    train(samples, output, SMALL)
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
    original = Trainer.train_step

    def train_step(trainer, crops):
        if trainer.step + 1 == step:
            signal.raise_signal(number)
        return original(trainer, crops)

    monkeypatch.setattr(Trainer, "train_step", train_step)


def last_line(capsys):
    """Give the last line on stderr, which the progress bar's stand above."""
    return capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]


def test_training_lowers_the_loss(samples):
    trainer = Trainer(replace(SMALL, batch=8, steps=30, learning_rate=3e-3, warmup=0.0))
    crops = draw_crops(samples, 8, 16, seed=0)
    losses = [trainer.train_step(crops)["loss"] for _ in range(30)]
    assert losses[-1] < 0.85 * losses[0]


def test_the_schedule_is_that_of_the_paper():
    trainer = Trainer(replace(TrainConfig(), steps=100))
    rates = []
    for _ in range(100):
        rates.append(trainer.schedule.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.schedule.step()
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(1e-6)
    peak = rates.index(max(rates))
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)


def test_the_gradient_loss_gains_its_weight_during_the_warmup():
    trainer = Trainer(replace(TrainConfig(), steps=100, warmup=0.2))
    weights = []
    for trainer.step in (0, 5, 10, 20, 99):
        weights.append(trainer.beta_grad)
    assert weights == [0, 2.5, 5, 10, 10]
    assert Trainer(replace(TrainConfig(), warmup=0.0)).beta_grad == 10


def test_an_epoch_uses_every_crop_once():
    trainer = Trainer(SMALL)
    crops = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 2, 16, 16)
    seen = []

    class Crops:
        def __len__(self):
            return len(crops)

        def __getitem__(self, order):
            seen.append(order.tolist())
            return crops[order]

    for _ in range(8):
        trainer.train_step(Crops())
    first, second = (list(chain(*orders)) for orders in (seen[:4], seen[4:]))
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second


def test_a_finished_run_leaves_the_checkpoint_and_a_row_a_step(straight, samples):
    state, log = beside(straight)
    assert not state.exists()
    assert log.exists()
    rows = rows_of(straight)
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 11)]
    for row in rows:
        weight = 0 if row["step"] == "1" else 10  # half a step of warm-up
        total = float(row["intensity"]) + weight * float(row["gradient"])
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    assert '"steps": 10' in read_metadata(straight)["training"]


def test_the_same_run_gives_the_same_weights_and_another_seed_others(straight, samples, tmp_path):
    again, other = tmp_path / "again.safetensors", tmp_path / "other.safetensors"
    train(samples, again, SMALL)
    assert_same_weights(straight, again)
    train(samples, other, replace(SMALL, seed=1))
    with pytest.raises(AssertionError):
        assert_same_weights(straight, other)


@pytest.mark.parametrize(
    ("step", "number"), [(1, signal.SIGINT), (4, signal.SIGTERM), (7, signal.SIGINT)], ids=["1", "4", "7"]
)
def test_a_stopped_run_goes_on_to_the_same_weights(straight, samples, tmp_path, monkeypatch, step, number):
    output = tmp_path / "student.safetensors"
    state, _ = beside(output)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        stop_after(patch, step, number)
        assert train(samples, output, SMALL) is None
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert state.exists()
    assert not output.exists()
    assert len(rows_of(output)) == step
    assert train(samples, output, SMALL) is not None
    assert not state.exists()
    assert_same_weights(straight, output)
    assert rows_of(output) == rows_of(straight)


def test_a_run_that_was_killed_goes_on_from_its_last_save(straight, samples, tmp_path, monkeypatch):
    output = tmp_path / "student.safetensors"
    original = Trainer.train_step

    def train_step(trainer, crops):
        if trainer.step == 5:
            raise KeyboardInterrupt
        return original(trainer, crops)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", train_step)
        with pytest.raises(KeyboardInterrupt):
            train(samples, output, SMALL, save_every=3)
    assert len(rows_of(output)) == 3
    train(samples, output, SMALL)
    assert_same_weights(straight, output)
    assert rows_of(output) == rows_of(straight)


def test_ctrl_c_on_the_command_leaves_a_state_that_goes_on(samples, tmp_path, capfd):
    steps = 150
    outputs = [tmp_path / name / "student.safetensors" for name in ("stopped", "straight")]
    commands = [["train", str(samples), "-o", str(output), "--steps", str(steps), *OPTIONS] for output in outputs]
    process = subprocess.Popen(
        [sys.executable, "-m", "irvis.runtime.cli", *commands[0]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        shown = b""
        while not re.search(rb"training:.* [1-9]\d*/150 ", shown):
            piece = process.stderr.read1(4096)
            assert piece, shown
            shown += piece
        process.send_signal(signal.SIGINT)
        said, trouble = process.communicate(timeout=120)
    finally:
        process.kill()
    state, _ = beside(outputs[0])
    assert process.returncode == 130, trouble
    assert b"Traceback" not in shown + trouble
    assert said.decode() == f"stopped; the same command goes on from {state}\n"
    assert state.exists()
    assert not outputs[0].exists()
    assert 1 <= len(rows_of(outputs[0])) < steps
    assert main(commands[0]) == main(commands[1]) == 0
    assert_same_weights(*outputs)
    assert capfd.readouterr().out == f"wrote {outputs[0]}\nwrote {outputs[1]}\n"


def test_going_on_with_other_pairs_is_refused(samples, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert train(samples, tmp_path / "s.safetensors", SMALL) is None
    write_samples(tmp_path / "others", 100, 120)
    with pytest.raises(FileError, match="was made on other pairs"):
        train(tmp_path / "others", tmp_path / "s.safetensors", SMALL)


def test_going_on_with_other_options_or_from_another_file_is_refused(samples, tmp_path, monkeypatch, capsys):
    output = tmp_path / "student.safetensors"
    state, _ = beside(output)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert main(["train", str(samples), "-o", str(output), "--steps", "10", *OPTIONS]) == 130
    before = state.read_bytes()
    assert main(["train", str(samples), "-o", str(output), "--steps", "11", *OPTIONS]) == 1
    assert "was made with other options" in last_line(capsys)
    assert state.read_bytes() == before
    for content in (b"", b"no state", before[: len(before) // 2]):
        state.write_bytes(content)
        assert main(["train", str(samples), "-o", str(output), "--steps", "10", *OPTIONS]) == 1
        assert f"not the state of a training run: {state}" in last_line(capsys)
    torch.save([1, 2], state)
    with pytest.raises(FileError, match="not the state of a training run"):
        train(samples, output, SMALL)


def test_a_loss_that_is_not_finite_ends_the_run_and_writes_nothing(samples, tmp_path, capsys):
    options = [*OPTIONS[:-1], "1e30"]
    output = tmp_path / "student.safetensors"
    assert main(["train", str(samples), "-o", str(output), "--steps", "9", *options]) == 1
    assert "lower --learning-rate" in last_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_of_nan_changes_no_weight(samples):
    trainer = Trainer(SMALL)
    with torch.no_grad():
        trainer.student.decoder.conv2.bias.fill_(float("nan"))
    before = trainer.student.encoder_ir.conv1.weight.clone()
    with pytest.raises(IrvisError, match="the loss is nan at step 0"):
        trainer.train_step(draw_crops(samples, 8, 16, seed=0))
    assert torch.equal(trainer.student.encoder_ir.conv1.weight, before)
    assert trainer.step == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--steps", "0"),
        ("--batch", "0"),
        ("--crops", "1"),
        ("--crop-side", "15"),
        ("--seed", "-1"),
        ("--learning-rate", "0"),
        ("--learning-rate", "nan"),
        ("--beta-grad", "-1"),
        ("--warmup", "2"),
    ],
)
def test_senseless_options_are_refused_in_one_line(samples, tmp_path, capsys, option, value):
    assert main(["train", str(samples), "-o", str(tmp_path / "s.safetensors"), "--batch", "2", option, value]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"irvis train: {option} must be ")
    assert f"Got {value}" in lines[0]


def test_one_step_is_a_run(samples, tmp_path):
    assert train(samples, tmp_path / "s.safetensors", replace(SMALL, steps=1)) is not None
    assert len(rows_of(tmp_path / "s.safetensors")) == 1


def test_an_output_that_cannot_be_written_is_said_before_training(samples, tmp_path, capsys):
    assert main(["train", str(samples), "-o", str(tmp_path), *OPTIONS]) == 1
    assert capsys.readouterr().err == f"irvis train: cannot write {tmp_path}: it is a folder\n"


def test_missing_pairs_are_one_line(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none"), "-o", str(tmp_path / "s.safetensors"), *OPTIONS]) == 1
    assert capsys.readouterr().err == f"irvis train: folder not found: {tmp_path / 'none'}\n"
