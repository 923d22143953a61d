"""Small registered infrared and visible pairs that the demo renders itself, so that it needs no other images.

Each pixel is a ray into a scene in metres: x right and y up from the ground below the camera, z ahead. What the ray
meets has both a heat and a colour, so the two pictures are registered by construction.
"""

import argparse
import copy
from pathlib import Path
from typing import Tuple, Union

import cv2
import numpy as np

from irvis.runtime.images import write_image
from irvis.runtime.sizes import DEFAULT_SIZE, MINIMUM, parse_size

SCENES: Tuple[str, ...] = ("street", "smoke", "glare")
EYE = 1.6  # height of the camera, metres
LAMPS = ((-4.6, 13.0), (4.6, 26.0), (-4.6, 40.0), (4.6, 57.0))  # x and z of the street lamps, metres
LAMPLIGHT = np.array((0.5, 0.82, 1.0))  # linear BGR, also of lit windows
Field = Union[float, np.ndarray]  # one value, or one per pixel (H, W)


class Scene:
    """A picture painted from far to near: ``heat`` (H, W) in 0..1, ``colour`` and ``glow`` in linear BGR (H, W, 3).

    ``bodies`` and ``smoke`` (H, W), in 0..1, are the shares of a pixel that are a person and that are behind smoke;
    ``wet`` (H, W) is the share of the glow above it that the ground mirrors.
    """

    def __init__(self, name: str, height: int, width: int, seed: int) -> None:
        self.rng = np.random.default_rng([seed, SCENES.index(name)])
        self.table = self.rng.random((128, 128))
        self.night, self.rows = name in ("street", "glare"), height
        self.pitch = max(1 / height, 4 / 3 / width)  # slope between neighbouring pixels
        # Slopes of the rays. The field of view is that of a 4:3 picture whatever the shape, so that nothing is cut off.
        right, up = (np.arange(width) + 0.5) / width - 0.5, 0.44 - (np.arange(height) + 0.5) / height
        self.right, self.up = np.meshgrid(right * 4 / 3, np.where(np.abs(up) < 1e-6, 1e-6, up))
        self.heat, self.bodies, self.smoke, self.wet = np.zeros((4, height, width))
        self.colour, self.glow = np.zeros((2, height, width, 3))

    def near(self, x: float, z: float, reach: float) -> "Scene":
        """Return the part of the picture, sharing its memory, within this many metres of the ground at x and z."""
        part, pad = copy.copy(self), 2 * z * self.pitch  # at least a few pixels, however small the picture
        columns = np.flatnonzero(np.abs(self.right[0] * z - x) < reach + pad)
        rows = np.flatnonzero(np.abs(self.up[:, 0] * z + EYE) < reach + pad)
        for name in ("right", "up", "heat", "bodies", "smoke", "wet", "colour", "glow"):
            setattr(part, name, getattr(self, name)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        return part

    def at(self, x: float, z: float) -> Tuple[np.ndarray, np.ndarray, float]:
        """Return, for the upright plane at z, metres right of x and above ground (H, W), and the metres per pixel."""
        return self.right * z - x, self.up * z + EYE, z * self.pitch

    def cell(self, a: Field, b: Field) -> np.ndarray:
        """Return the random number, in 0..1, of the unit cell that holds (a, b)."""
        return self.table[np.floor(a).astype(int) & 127, np.floor(b).astype(int) & 127]

    def noise(self, a: np.ndarray, b: np.ndarray, octaves: int = 5, gain: float = 0.5) -> np.ndarray:
        """Return fractal noise (H, W), about -0.5..0.5; octaves finer than a pixel fade out, as they would alias."""
        step, total = np.maximum(footprint(a), footprint(b)), np.zeros(a.shape)
        for octave in range(octaves):
            scale = 2.0**octave
            fade = np.clip(1.6 - step * scale, 0, 1) * 0.8 * gain**octave
            i, j = np.floor(a * scale), np.floor(b * scale)
            s, t = smooth(a * scale - i), smooth(b * scale - j)
            low = self.cell(i, j) * (1 - t) + self.cell(i, j + 1) * t
            high = self.cell(i + 1, j) * (1 - t) + self.cell(i + 1, j + 1) * t
            total += (low + (high - low) * s - 0.5) * fade
        return total

    def light(self, x: Field, y: Field, z: Field) -> np.ndarray:
        """Return the light on a point in metres: linear BGR, the point's shape + (3,)."""
        if not self.night:
            return np.multiply.outer(np.ones_like(x), (0.8, 0.74, 0.72))
        lit = np.multiply.outer(np.exp(-(z + 0 * x) / 12), (0.02, 0.024, 0.015)) + 0.002  # own dipped headlights
        for side, ahead in LAMPS:
            lit = lit + np.multiply.outer(1 / (6 + (x - side) ** 2 + (y - 5) ** 2 + (z - ahead) ** 2), LAMPLIGHT)
        return lit

    def paint(self, mask: np.ndarray, heat: Field, colour: Union[np.ndarray, Tuple[float, float, float]]) -> None:
        """Blend a surface of this heat and linear BGR over the picture by mask (H, W), in 0..1."""
        cover = mask[..., None]
        self.heat += mask * (heat - self.heat)
        self.colour += cover * (np.asarray(colour) - self.colour)
        self.glow *= 1 - cover
        self.bodies *= 1 - mask


def smooth(t: np.ndarray) -> np.ndarray:
    """Ease t into 0..1 with flat ends."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def footprint(a: np.ndarray) -> np.ndarray:
    """Return how much a coordinate (H, W) changes from one pixel to the next."""
    down, across = np.gradient(a)
    return np.maximum(np.abs(down), np.abs(across)) + 1e-6


def lines(a: np.ndarray, period: float, width: float) -> np.ndarray:
    """Return the coverage, in 0..1, by lines of this width at the multiples of a period; same unit as a (H, W)."""
    step = np.minimum(footprint(a), period)
    distance = np.abs((a / period + 0.5) % 1 - 0.5) * period
    return np.clip((width - 2 * distance) / (2 * step) + 0.5, 0, np.minimum(1, width / step))


def masonry(scene: Scene, a: np.ndarray, y: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the mortar's coverage and each brick's own shade, both (H, W) in 0..1, of a wall along a (metres)."""
    a = a + 0.18 * (np.floor(y / 0.16) % 2)  # every other course is shifted by half a brick
    return np.maximum(lines(y, 0.16, 0.025), lines(a, 0.36, 0.025)), scene.cell(a / 0.36, y / 0.16)


def rod(x: np.ndarray, y: np.ndarray, ax: float, ay: float, bx: float, by: float, radius: float) -> np.ndarray:
    """Return the signed distance in metres (H, W) to a rod with round ends from a to b; below 0 inside."""
    run, rise = bx - ax, by - ay
    t = np.clip(((x - ax) * run + (y - ay) * rise) / max(run * run + rise * rise, 1e-9), 0, 1)
    return np.hypot(x - ax - t * run, y - ay - t * rise) - radius


def box(x: np.ndarray, y: np.ndarray, low: float, high: float, half: float, taper: float = 0.0) -> np.ndarray:
    """Return the signed distance (H, W) to a box about x = 0 from low to high, narrower by taper each metre up."""
    return np.maximum(np.abs(x) - half + taper * (y - low), np.abs(y - (low + high) / 2) - (high - low) / 2)


def fill(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Return the mask, in 0..1, of a signed distance; distance and pixel are in metres."""
    return np.clip(0.5 - distance / pixel, 0, 1)


def person(scene: Scene, x: float, z: float, stride: float, albedo: float = 0.06) -> None:
    """Paint a walker 1.75 m tall: skin hot, clothes cooler with folds, all of it dark to the eye."""
    scene = scene.near(x, z, 2.2)
    px, py, pixel = scene.at(x, z)
    folds = scene.noise(px * 6 + x * 7, py * 4, 4)
    limbs = []  # end x y, end x y, radius, heat
    for side in (-1, 1):
        knee, foot, hand = side * (0.09 + stride * 0.45), side * (0.08 + stride), side * 0.27 - side * stride * 0.6
        limbs += [(foot, 0.06, foot + 0.07, 0.05, 0.055, 0.45), (knee, 0.48, foot, 0.1, 0.07, 0.66)]
        limbs += [(side * 0.085, 0.9, knee, 0.48, 0.092, 0.7), (side * 0.19, 1.38, side * 0.26, 1.12, 0.065, 0.6)]
        limbs += [(side * 0.26, 1.12, hand, 0.9, 0.052, 0.62), (hand, 0.86, hand, 0.83, 0.05, 0.95)]
    limbs += [(0, 0.95, 0, 1.3, 0.175, 0.6), (-0.13, 1.37, 0.13, 1.37, 0.09, 0.62), (0, 1.45, 0, 1.55, 0.06, 0.95)]
    limbs += [(0, 1.58, 0, 1.66, 0.095, 1.0), (0, 1.69, 0, 1.7, 0.092, 0.75)]  # face, then hair
    cloth = scene.light(px + x, py, z) * (albedo * (1 + folds))[..., None] * (0.75, 1.0, 0.9)
    cover = np.zeros_like(px)
    for *ends, heat in limbs:
        mask = fill(rod(px, py, *ends), pixel)
        scene.paint(mask, heat + 0.25 * folds * (heat < 0.9), cloth * (2 if heat > 0.9 else 1))
        cover = np.maximum(cover, mask)
    scene.bodies[:] = np.maximum(scene.bodies, cover)


def car(scene: Scene, x: float, z: float, beam: float, tail: float = 0.0) -> None:
    """Paint a car seen end on: warm grille, tyres and underside; beam and tail are the glow of its lamps."""
    scene = scene.near(x, z, 2)
    px, py, pixel = scene.at(x, z)
    sheen, lit = scene.noise(px * 2, py * 5, 3), scene.light(px + x, py, z)
    parts = (  # low, high, half width, taper, heat, albedo
        (0.0, 0.34, 0.8, 0.0, 0.7, 0.01), (0.0, 0.22, 0.58, 0.0, 0.45, 0.01), (0.26, 0.95, 0.9, 0.06, 0.32, 0.2),
        (0.93, 1.48, 0.82, 0.42, 0.25, 0.2), (0.97, 1.41, 0.74, 0.42, 0.12, 0.03),
        (0.4, 0.66, 0.45, 0.0, 0.66 if beam else 0.36, 0.03), (0.5, 0.6, 0.24, 0.0, 0.36, 0.5),
    )  # fmt: skip
    for low, high, half, taper, heat, albedo in parts:
        mask = fill(box(px, py, low, high, half, taper), pixel)
        scene.paint(mask, heat + 0.1 * sheen, lit * (albedo * (1 + sheen))[..., None])
    lamp = fill(rod(np.abs(px), py, 0.62, 0.72, 0.74, 0.72, 0.08), pixel)
    scene.paint(lamp, 0.55, (0.03, 0.03, 0.04))
    scene.glow += lamp[..., None] * (np.array((0.95, 1, 1)) * beam + np.array((0.04, 0.06, 1)) * tail)


def tree(scene: Scene, x: float, z: float, tall: float) -> None:
    """Paint a tree this many metres tall: trunk, bough and a ragged crown."""
    scene = scene.near(x, z, tall * 1.2)
    px, py, pixel = scene.at(x, z)
    lit, bark = scene.light(px + x, py, z), scene.noise(px * 9, py * 1.5, 3)
    leaf, spray = scene.noise(px * 1.1 + x, py * 1.1, 4), scene.noise(px * 5, py * 5, 5, 0.75)
    bough = rod(px, py, 0, tall * 0.35, tall * 0.2, tall * 0.7, 0.08)
    trunk = np.minimum(rod(px, py, 0, 0, 0, tall * 0.6, 0.1 + tall * 0.01), bough)
    scene.paint(fill(trunk, pixel), 0.27 + 0.12 * bark, lit * (0.09 * (1 + bark))[..., None])
    crown = np.hypot(px / 0.85, py - tall * 0.72) - tall * 0.3 + leaf * tall * 0.25 + spray * tall * 0.16
    shade = np.clip(0.5 + leaf + 1.2 * spray + (py / tall - 0.7), 0.08, 1.6)
    scene.paint(fill(crown, 2 * pixel), 0.21 + 0.07 * leaf + 0.05 * spray, lit * shade[..., None] * (0.04, 0.13, 0.08))


def smoke(scene: Scene, x: float, z: float) -> None:
    """Roll a bank of smoke over the picture: opaque to the eye, almost nothing in the infrared."""
    px, py, _ = scene.at(x, z)
    a, b = px * 0.6 + 11, py * 0.6
    puff = scene.noise(a, b, 6, 0.55)
    slope = puff - scene.noise(a + 0.1, b + 0.14, 6, 0.55)  # towards the light
    bank = 1.1 - np.hypot((px - 0.3 * py) / 3.2, np.maximum(py - 0.8, 0) / 2.8) ** 2 + 1.2 * puff
    scene.smoke[:] = smooth(bank * 2.2) * smooth(1 + (py + 0.5 * puff) * 1.6)
    scene.heat += 0.12 * scene.smoke * (0.24 + 0.1 * puff - scene.heat)
    shade = np.clip(0.55 + 0.9 * slope + 0.3 * puff + 0.04 * py, 0.15, 1.1) * scene.smoke
    scene.colour += shade[..., None] * (0.78, 0.76, 0.75) - scene.smoke[..., None] * scene.colour


def street(scene: Scene, wet: float) -> None:
    """Paint sky, road, pavements and two rows of houses: each ray hits the first of ground, side fronts and end."""
    right, up, half = scene.right, scene.up, 6.5  # half: from the middle to the house fronts, metres
    ground = np.where(up < 0, EYE / np.maximum(-up, 1e-6), 1e6)
    front = half / np.maximum(np.abs(right), half / 110)
    z = np.minimum(ground, front)
    x, y, road = right * z, up * z + EYE, (ground <= front) * 1.0
    lit = scene.light(x, y, z)
    rise, cloud = smooth(up * 2)[..., None], scene.noise(right * 3, up * 7)[..., None]
    sky = (0.007, 0.006, 0.005) - rise * 0.004 if scene.night else (0.95 + 0.2 * cloud) * (0.9, 0.86, 0.84)
    scene.paint(np.ones_like(up), 0.06 - 0.05 * rise[..., 0], sky * (1 + 0.3 * cloud))

    end = front > 109
    side = np.where(end, 50, np.where(right > 0, 0, 20))  # the row of the random table that a front draws from
    along = np.where(end, x + 200, z)
    tone, block = scene.cell(along / 11, side), scene.cell(along / 11 + 7, side)  # of each house
    wall = (y < 7.5 + 6 * block + 14 * end * (tone > 0.6)) * (1 - road)
    mortar, brick = masonry(scene, along, y)
    plain, stain = tone > 0.6, scene.noise(along * 0.9, y * 0.9 + side)  # plastered houses show no bricks
    albedo = (0.2 + 0.25 * tone) * (1 + 0.8 * stain + ~plain * (0.3 * brick - 0.15 - 0.45 * mortar))
    tint = np.stack([0.5 + 0.4 * tone, 0.68 + 0.25 * tone, np.ones_like(tone)], -1)
    cold = 0.2 + 0.05 * tone + 0.05 * stain - 0.012 * mortar - 0.005 * y
    scene.paint(wall, cold, lit * tint * albedo[..., None])
    bay, storey = along / 2.2, (y - 0.6) / 3.1
    u, v, draw = bay % 1 - 0.5, storey % 1 - 0.45, scene.cell(np.floor(bay) * 3 + side, storey)
    inset = np.maximum(np.abs(u) / 0.27, np.abs(v) / 0.3)
    edge = np.maximum(footprint(bay) / 0.27, footprint(storey) / 0.3)
    trim, pane = (wall * np.clip((size - inset) / edge + 0.5, 0, 1) for size in (1.15, 1.0))
    pane = pane * (np.minimum(np.abs(u), np.abs(v)) > 0.025)
    scene.paint(trim, cold + 0.06, lit * 0.4)
    scene.paint(pane, 0.1 + 0.08 * draw, lit * 0.05 + (0.001 if scene.night else 0.12))
    home = pane * np.clip((draw - 0.8) * 5, 0, 1) * (0.7 + scene.noise(along * 2, y * 2))
    scene.glow += home[..., None] * LAMPLIGHT * (0.45 if scene.night else 0.05)

    pavement = np.abs(x) > 4.2
    stain, grain = scene.noise(x * 0.6, z * 0.3 + 9, 4), scene.noise(x * 14, z * 14, 4, 0.9)
    crack = np.clip(1 - np.abs(scene.noise(x * 0.45 + 31, z * 0.45)) * 50, 0, 1) * (z < 20) * ~pavement
    slab = np.maximum(lines(x, 0.6, 0.02), lines(z, 0.6, 0.02)) * pavement
    mark = ((np.abs(x) < 0.07) & (z % 6 < 3)) | (np.abs(np.abs(x) - 3.9) < 0.06)
    mark = mark * np.clip(0.8 + 1.2 * stain + 0.3 * grain, 0, 1)
    albedo = (0.13 + 0.07 * pavement) * (1 + 0.7 * stain + 0.45 * grain - 0.5 * crack - 0.4 * slab) + 0.4 * mark
    albedo = np.where(np.abs(np.abs(x) - 4.2) < 0.1, 0.3, albedo)  # kerb stones
    tracks = np.exp(-((np.abs(x) - 2) ** 2))  # wheels warm the road
    warm = 0.14 + 0.04 * pavement + 0.04 * stain + 0.01 * grain - 0.02 * (mark + slab) + 0.04 * tracks
    scene.paint(road, warm, lit * albedo[..., None] * (1.05, 1.0, 0.85))
    for lamp_x, lamp_z in LAMPS[::-1]:
        px, py, pixel = scene.at(lamp_x, lamp_z)
        arm = -0.9 if lamp_x > 0 else 0.9  # over the road
        pole = np.minimum(rod(px, py, 0, 0, 0, 5.1, 0.06), rod(px, py, 0, 5.1, arm, 5.25, 0.04))
        scene.paint(fill(pole, pixel), 0.24, scene.light(lamp_x, 2.0, lamp_z) * 0.1)
        bulb = fill(rod(px, py, arm, 5.2, arm * 1.3, 5.24, 0.07), pixel)
        scene.paint(bulb, 0.7 if scene.night else 0.3, (0.02, 0.02, 0.02))
        scene.glow += bulb[..., None] * LAMPLIGHT * (2.0 if scene.night else 0)
    scene.wet[:] = wet * road * np.clip(0.7 + 1.8 * stain + 0.5 * grain, 0.1, 1.5)


def build(name: str, height: int, width: int, seed: int) -> Scene:
    """Return the painted scene before a sensor sees it. Raises ValueError."""
    if name not in SCENES:
        raise ValueError(f"unknown scene {name!r}: it must be one of {', '.join(SCENES)}")
    if min(height, width) < MINIMUM:
        raise ValueError(f"a scene needs at least {MINIMUM} pixels a side. Got {height}x{width} (height x width)")
    scene = Scene(name, height, width, seed)
    move = scene.rng.uniform(-0.3, 0.3, 6)  # metres
    street(scene, 0.35 if name == "glare" else 0.05)
    tree(scene, -5.2, 30 + move[0], 7)
    tree(scene, 5.3, 20 + move[1], 6)
    person(scene, -3.5 + move[2], 21, 0.16)
    if name == "street":
        car(scene, -1.6, 40, 1)
        person(scene, 0.9 + move[3], 17, -0.2)
        car(scene, 3.0 + move[4], 13, 0, 0.2)
        person(scene, 4.6, 9.5 + move[5], 0.06)
        person(scene, -2.6 + move[0], 8.5, 0.18)
    elif name == "smoke":
        car(scene, 2.6, 17, 0, 0.2)
        person(scene, -1.5 + move[3], 12, -0.16, 0.1)
        person(scene, 0.4 + move[4], 10, 0.18, 0.1)
        smoke(scene, -0.4 + move[5], 8)
        person(scene, 3.3, 9, 0.14, 0.12)
    else:
        car(scene, 1.9, 26, 5)
        car(scene, -1.7 + move[3], 12, 20)
        person(scene, 0.3 + move[4], 11.5, -0.18)
        person(scene, -3.3 + move[5], 10.5, 0.15)
    return scene


def expose(scene: Scene) -> Tuple[np.ndarray, np.ndarray]:
    """Return what the two sensors see: uint8 (H, W) and uint8 BGR (H, W, 3), each with its own blur and noise."""
    rng, shape = scene.rng, scene.heat.shape

    def blur(picture: np.ndarray, across: float, down: float) -> np.ndarray:
        """Gaussian of these widths, in heights of the picture."""
        return cv2.GaussianBlur(picture, (0, 0), sigmaX=across * scene.rows + 0.1, sigmaY=down * scene.rows + 0.1)

    heat = blur(scene.heat, 0.0016, 0.0016)
    heat = heat + 0.1 * blur(np.maximum(heat - 0.45, 0), 0.03, 0.03)
    heat = heat + rng.normal(0, 0.008, shape) + rng.normal(0, 0.003, (1, shape[1]))  # columns differ in offset
    light = scene.colour + scene.glow + blur(scene.glow, 0.008, 0.2) * scene.wet[..., None]
    for spread, share in ((0.006, 0.5), (0.025, 0.3), (0.1, 0.4)):  # the lens spreads a veil around each lamp
        light = light + share * blur(scene.glow, spread, spread)
    light = 1 - np.exp(-np.maximum(light, 0) * (3.0 if scene.night else 1.5))
    light = light + rng.normal(0, 0.025 if scene.night else 0.008, (*shape, 3)) * np.sqrt(light)  # photons
    light = np.clip(light, 0, 1) ** (1 / 2.2) + rng.normal(0, 0.006, (*shape, 1))
    infrared, visible = (np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8) for picture in (heat, light))
    return infrared, visible


def make_scene(name: str, height: int = 480, width: int = 640, seed: int = 0) -> Tuple[np.ndarray, np.ndarray]:
    """Return a scene of SCENES as infrared uint8 (H, W) and visible uint8 BGR (H, W, 3), registered.

    The same arguments give the same pictures. Raises ValueError for an unknown name or a side under 16 pixels.
    """
    return expose(build(name, height, width, seed))


def write_samples(folder: Union[str, Path], height: int = 480, width: int = 640) -> None:
    """Write every scene of SCENES to folder/ir/NAME.png and folder/vi/NAME.png. Raises FileError."""
    for name in SCENES:
        infrared, visible = make_scene(name, height, width)
        write_image(Path(folder) / "ir" / f"{name}.png", infrared)
        write_image(Path(folder) / "vi" / f"{name}.png", visible)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis samples``."""
    parser.add_argument("folder", type=Path, help="folder to write ir/NAME.png and vi/NAME.png into")
    parser.add_argument(
        "--size", type=parse_size, default=DEFAULT_SIZE, metavar="HEIGHTxWIDTH", help="frame size (default: 480x640)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis samples``."""
    write_samples(arguments.folder, *arguments.size)
    print(f"wrote {len(SCENES)} pairs into {arguments.folder}: {', '.join(SCENES)}")
    return 0
