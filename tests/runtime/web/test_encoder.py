import queue
import threading
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp")

from irvis.runtime.panels import side_by_side
from irvis.runtime.samples import make_scene
from irvis.runtime.web.encoder import Encoder

INFRARED, VISIBLE = make_scene("street", 96, 128)
FRAMES = (INFRARED, VISIBLE, VISIBLE[::-1])


@pytest.fixture
def pictures():
    return queue.Queue()


@pytest.fixture
def encoder(pictures):
    encoder = Encoder(80, 1e6, pictures.put)
    yield encoder
    encoder.close()


def offer(encoder, frames=FRAMES, index=None):
    """Offer frames until they are taken."""
    before = encoder.encoded
    while encoder.encoded == before:
        encoder.offer(*frames, index)
        time.sleep(0.001)


def png(encoder):
    answers = queue.Queue()
    encoder.ask_png(answers.put)
    return cv2.imdecode(np.frombuffer(answers.get(timeout=10), np.uint8), cv2.IMREAD_UNCHANGED)


def test_each_picture_has_a_number(encoder, pictures):
    for number in range(1, 5):
        offer(encoder)
        assert pictures.get(timeout=10).number == number


def test_what_comes_while_it_encodes_is_skipped_and_then_the_newest_is_taken():
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def deliver(picture):
        seen.append(picture.message[4:40])
        begun.set()
        assert go_on.wait(10)

    encoder = Encoder(80, 1e6, deliver)
    encoder.offer(*FRAMES, 0)
    assert begun.wait(10)
    for index in range(1, 100):
        encoder.offer(*FRAMES, index)
    assert (encoder.encoded, encoder.skipped) == (1, 99)
    go_on.set()
    offer(encoder, index=100)
    while len(seen) < 2:
        time.sleep(0.001)
    encoder.close()
    assert [message.split(b",")[0] for message in seen] == [b'{"index": 0', b'{"index": 100']


def test_the_rate_is_kept():
    encoder = Encoder(80, 0.05, lambda picture: None)
    for _ in range(50):
        encoder.offer(*FRAMES, None)
        time.sleep(0.001)
    encoder.close()
    assert (encoder.encoded, encoder.skipped) == (2, 48)  # the first comes at once, and the next is due from then on


def test_a_better_quality_is_nearer_to_the_frame():
    def error(quality):
        pictures = queue.Queue()
        encoder = Encoder(quality, 30, pictures.put)
        encoder.offer(*FRAMES, None)
        message = pictures.get(timeout=10).message
        encoder.close()
        jpegs = message[4 + int.from_bytes(message[:4], "little") :]
        decoded = cv2.imdecode(np.frombuffer(jpegs, np.uint8), cv2.IMREAD_UNCHANGED)  # the first of the three
        return np.abs(decoded.astype(int) - INFRARED).mean()

    assert error(95) < error(80) < error(20)


@pytest.mark.parametrize("infrared", [INFRARED, 7000 + 3 * INFRARED.astype(np.uint16)], ids=["8 bits", "16 bits"])
def test_the_png_is_of_the_last_picture_and_to_the_bit(encoder, pictures, infrared):
    offer(encoder, (np.zeros_like(infrared), *FRAMES[1:]))
    pictures.get(timeout=10)
    offer(encoder, (infrared, *FRAMES[1:]))
    pictures.get(timeout=10)
    image = png(encoder)
    np.testing.assert_array_equal(image[:, 128:], side_by_side(FRAMES)[:, 128:])
    if infrared.dtype == np.uint8:
        np.testing.assert_array_equal(image, side_by_side(FRAMES))


def test_another_size_does_not_disturb_what_was_copied(encoder, pictures):
    for size in (96, 48, 96):
        offer(encoder, [frame[:size] for frame in FRAMES])
        pictures.get(timeout=10)
        np.testing.assert_array_equal(png(encoder), side_by_side([frame[:size] for frame in FRAMES]))


def test_close_ends_the_thread_whatever_is_under_way(pictures):
    encoder = Encoder(80, 1e6, pictures.put)
    encoder.offer(*FRAMES, None)
    encoder.close()
    encoder.close()
    encoder.offer(*FRAMES, None)
    assert not [thread for thread in threading.enumerate() if thread.name == "irvis-jpeg"]
