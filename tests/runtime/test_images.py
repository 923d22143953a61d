import resource
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from irvis.runtime.errors import FileError
from irvis.runtime.images import read_infrared, read_visible, write_image


@pytest.fixture
def colour():
    return np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def test_png_comes_back_to_the_bit_also_under_a_non_ascii_name(tmp_path, colour):
    path = tmp_path / "Wärme-红外.png"
    write_image(path, colour)
    np.testing.assert_array_equal(read_visible(path), colour)


def test_grey_visible_stays_grey(tmp_path, colour):
    write_image(tmp_path / "grey.png", colour[:, :, 0])
    assert read_visible(tmp_path / "grey.png").shape == (20, 24)


def test_alpha_is_dropped(tmp_path, colour):
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([colour, colour[:, :, :1]]))
    np.testing.assert_array_equal(read_visible(tmp_path / "alpha.png"), colour)


def test_infrared_keeps_sixteen_bits(tmp_path):
    counts = np.arange(400, dtype=np.uint16).reshape(20, 20) * 160
    cv2.imwrite(str(tmp_path / "ir.png"), counts)
    np.testing.assert_array_equal(read_infrared(tmp_path / "ir.png"), counts)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_stored_in_colour_comes_back_to_the_bit(tmp_path, dtype):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 16)
    cv2.imwrite(str(tmp_path / "ir.png"), np.dstack([levels] * 3))
    np.testing.assert_array_equal(read_infrared(tmp_path / "ir.png"), levels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_infrared_stored_in_colour_is_its_luminance(tmp_path, colour, dtype):
    colour = colour.astype(dtype) * np.iinfo(dtype).max // 255
    cv2.imwrite(str(tmp_path / "ir.png"), colour)
    infrared = read_infrared(tmp_path / "ir.png")
    blue, green, red = (colour[:, :, channel].astype(float) for channel in range(3))
    assert infrared.dtype == dtype
    np.testing.assert_allclose(infrared, 0.299 * red + 0.587 * green + 0.114 * blue, rtol=3e-5, atol=0.51)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(FileError, match="not an image"):
        read_visible(tmp_path / "x.png")


def test_a_chunk_that_claims_gigabytes_takes_no_memory(tmp_path, colour):
    """OpenCV 5.0 took 2 GiB for this one, and seconds."""
    write_image(tmp_path / "x.png", colour)
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[:33] + b"\x7f\xff\xff\xff" + whole[37:])
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FileError, match="not an image"):
        read_visible(tmp_path / "x.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started < 100_000  # KiB
    (tmp_path / "x.png").write_bytes(whole + b"what some programs leave behind the end")
    np.testing.assert_array_equal(read_visible(tmp_path / "x.png"), colour)


def test_a_truncated_image_is_refused(tmp_path, colour):
    write_image(tmp_path / "x.png", colour)
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="not an image"):
        read_visible(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_that_is_cut_off_anywhere_is_refused(tmp_path, colour, suffix, progressive):
    """OpenCV 4.5 fills the rest with grey, and says nothing."""
    whole = cv2.imencode(suffix, np.tile(colour, (9, 9, 1)), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    path = tmp_path / f"x{suffix}"
    for length in (*range(2, len(whole) - 1, 997), len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match="not an image"):
            read_visible(path)
    for content in (whole, whole + b"what some programs leave behind the end"):
        path.write_bytes(content)
        assert read_visible(path).shape == (180, 216, 3)


def png_claiming(height, width):
    """Return a PNG of a hundred bytes that claims to be that large."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(9))))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_with_exif(frame, content):
    """Return a JPEG that has this as its EXIF, a TIFF or at least a thumbnail."""
    jpeg, exif = cv2.imencode(".jpg", frame)[1].tobytes(), b"Exif\0\0" + content
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


def test_a_jpeg_is_not_turned_as_its_exif_asks_since_its_partner_is_not(tmp_path):
    turned = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\x06\0\0\0\0\0\0"  # orientation 6: by 90 degrees
    frame = np.full((20, 30, 3), 90, np.uint8)
    (tmp_path / "a.jpg").write_bytes(jpeg_with_exif(frame, turned))
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == (30, 20, 3)
    assert read_visible(tmp_path / "a.jpg").shape == frame.shape


def test_a_jpeg_that_is_cut_off_behind_its_thumbnail_is_refused(tmp_path, colour):
    thumbnail = cv2.imencode(".jpg", colour[::4, ::4])[1].tobytes()
    whole = jpeg_with_exif(colour, thumbnail)
    (tmp_path / "a.jpg").write_bytes(whole)
    assert read_visible(tmp_path / "a.jpg").shape == colour.shape
    (tmp_path / "a.jpg").write_bytes(whole[:-100])
    with pytest.raises(FileError, match="not an image"):
        read_visible(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.png", png_claiming(60000, 60000)),
        ("x.pgm", b"P5\n60000 60000\n255\n0"),
        ("x.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_more_pixels_than_are_allowed_are_refused_before_memory_is_taken(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=r"larger than the environment's OPENCV_IO_MAX_IMAGE_\w+ allows") as caught:
        read_infrared(tmp_path / name)
    assert name in str(caught.value)


def test_the_environment_sets_how_many_pixels_are_allowed(tmp_path):
    """In a program of its own: OpenCV reads it when it is first imported."""
    (tmp_path / "x.png").write_bytes(png_claiming(16385, 16384))
    code = f"from irvis.runtime.images import read_image; read_image({str(tmp_path / 'x.png')!r})"
    too_large, not_whole = "larger than the environment's OPENCV_IO_MAX_IMAGE_PIXELS", "not an image"
    for environment, said in (({}, too_large), ({"OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 29)}, not_whole)):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert said in done.stderr


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_float_images_are_refused(tmp_path, value):
    cv2.imwrite(str(tmp_path / "x.tiff"), np.full((20, 20), value, np.float32))
    for read in (read_infrared, read_visible):
        with pytest.raises(FileError, match=r"float32.*; convert it first"):
            read(tmp_path / "x.tiff")


def test_sixteen_bit_visible_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((20, 20), np.uint16))
    with pytest.raises(FileError, match=r"8 bits a channel\. Got uint16.*, or exchange the two: only infrared may"):
        read_visible(tmp_path / "x.png")


def test_what_opencv_cannot_encode_is_one_line_and_nothing_is_written(tmp_path):
    with pytest.raises(FileError, match=r"OpenCV cannot encode uint8 \(1, 70000\) as .jpg: .*wide.jpg"):
        write_image(tmp_path / "wide.jpg", np.zeros((1, 70000), np.uint8))
    assert not list(tmp_path.iterdir())


def test_an_unknown_suffix_is_refused_and_nothing_written(tmp_path, colour):
    with pytest.raises(FileError, match="suffix"):
        write_image(tmp_path / "x.xyz", colour)
    assert not list(tmp_path.iterdir())
