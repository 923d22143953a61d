import json
import resource

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

from irvis.benchmarks.detection.detector import Example, Settings, open_detector
from irvis.benchmarks.detection.dfine import DFine, schedule
from irvis.benchmarks.detection.dfine_networks import BACKBONE, SMALL, published_network
from irvis.benchmarks.detection.objects import Objects
from irvis.benchmarks.detection.precision import average_precisions
from irvis.runtime.errors import FileError, IrvisError, ModelError
from irvis.runtime.images import read_image, write_image

CLASSES = ("people", "car")
SETTINGS = Settings(epochs=2, batch=2, side=96)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Dark images with a bright person or a red car in each, and the last without either."""
    folder, drawn, found = tmp_path_factory.mktemp("examples"), np.random.default_rng(0), []
    for number in range(4):
        image = drawn.integers(0, 40, (96, 128, 3), np.uint8)
        rows = []
        if number < 3:
            kind = number % 2
            left, top = drawn.integers(8, 60), drawn.integers(8, 40)
            width, height = ((20, 44), (56, 28))[kind]
            image[top : top + height, left : left + width, kind * 2 :] = 250
            rows.append([left / 128, top / 96, (left + width) / 128, (top + height) / 96, kind])
        table = np.array(rows, np.float32).reshape(-1, 5)
        write_image(folder / f"{number}.png", image)
        found.append(Example(folder / f"{number}.png", Objects(table[:, :4], table[:, 4].astype(np.int64))))
    return found


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder of weights as they are published: for COCO's 80 classes, with frozen statistics."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("published")
    shape = {**SMALL, "freeze_backbone_batch_norms": True}
    config = DFineConfig(backbone_config=HGNetV2Config(**BACKBONE), num_labels=80, **shape)
    DFineForObjectDetection(config).save_pretrained(folder)
    return folder


def trained(examples, folder):
    detector = open_detector("dfine", CLASSES, None, "cpu")
    detector.fit(examples, examples[:1], SETTINGS, folder)
    return detector.detect(read_image(examples[0].image))


def test_stopped_it_goes_on_to_the_same(examples, tmp_path, monkeypatch):
    whole = trained(examples, tmp_path / "whole")
    original, steps = DFine._step, []

    def step(*arguments):
        steps.append(1)
        if len(steps) == 4:  # the second of the second epoch
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(DFine, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        trained(examples, tmp_path / "stopped")
    found = trained(examples, tmp_path / "stopped")
    assert len(steps) == 6
    for one, other in zip(whole, found):
        np.testing.assert_array_equal(one, other)
    boxes, classes, scores = found
    assert (boxes.shape, boxes.dtype, classes.dtype, scores.dtype) == ((100, 4), np.float32, np.int64, np.float32)
    assert 0 <= boxes.min() <= boxes.max() <= 1
    assert set(classes) <= {0, 1}


def test_too_small_a_side_is_one_line(examples, tmp_path):
    with pytest.raises(IrvisError, match="has 100 queries, but only 84 places in an image of 64x64; give a larger"):
        DFine(CLASSES, None, "cpu").fit(examples, examples[:1], SETTINGS._replace(side=64), tmp_path)


def test_a_disk_that_fills_up_is_one_line(examples, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(FileError, match=r"cannot write .*state\.pt: File too large"):
            DFine(CLASSES, None, "cpu").fit(examples[:2], examples[:1], SETTINGS._replace(epochs=1), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [*tmp_path.iterdir()]


def test_what_is_no_state_is_refused(examples, tmp_path):
    for content in (b"", b"no state"):
        (tmp_path / "state.pt").write_bytes(content)
        with pytest.raises(FileError, match=r"not a training state of D-FINE: .*state.pt; remove it"):
            DFine(CLASSES, None, "cpu").fit(examples, examples[:1], SETTINGS, tmp_path)


def test_published_weights_are_taken_but_for_the_classes(published, examples, tmp_path):
    wanted = DFineForObjectDetection.from_pretrained(published).state_dict()
    found = published_network(published, 2).state_dict()
    other = {name for name, value in found.items() if not torch.equal(value, wanted.get(name, torch.zeros(0)))}
    assert other == {name for name in found if "class_embed" in name or "enc_score_head" in name}
    detector = DFine(CLASSES, published, "cpu")
    assert detector.pretrained
    assert "from published weights" in detector.about
    detector.fit(examples[:2], examples[:1], SETTINGS._replace(epochs=1), tmp_path / "fit")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), FileError, "weights not found: .*config.json; give a"),
        (lambda folder: (folder / "config.json").write_text("{"), ModelError, "cannot load D-FINE from"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), ModelError, "cannot load D-FINE from"),
        (
            lambda folder: (folder / "config.json").write_text(json.dumps({"model_type": "yolos"})),
            ModelError,
            "is not a config of D-FINE.*Got yolos",
        ),
        (
            lambda folder: (folder / "config.json").write_text(
                (folder / "config.json").read_text().replace('"decoder_layers": 2', '"decoder_layers": 3')
            ),
            ModelError,
            "lacks weights of D-FINE, such as",
        ),
    ],
)
def test_what_is_no_published_weights_is_one_line(published, tmp_path, change, error, said):
    for file in published.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path)
    with pytest.raises(error, match=said) as caught:
        DFine(CLASSES, tmp_path, "cpu")
    assert len(str(caught.value).splitlines()) == 1


def test_the_rate_rises_and_falls():
    rates = [schedule(done) for done in np.linspace(0, 1, 101)]
    assert rates[0] < 0.05
    assert max(rates) == rates[5] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert sorted(rates[5:], reverse=True) == rates[5:]


@pytest.mark.slow
def test_it_learns_what_it_is_shown(examples, tmp_path):
    """The people of two images; the only car takes longer."""
    detector = DFine(CLASSES, None, "cpu")
    detector.fit(examples[:3], examples[:3], SETTINGS._replace(epochs=80), tmp_path)
    found = [detector.detect(read_image(example.image)) for example in examples[:3]]
    assert average_precisions(found, [example.objects for example in examples[:3]], 2)[0] > 0.6
