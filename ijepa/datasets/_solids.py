"""Pictures of solids on a plain ground: ray casting and shading, many images at once.

One fixed camera, ``EYE`` above the ground, looks down and ahead. World axes: x to the right, y up,
z ahead; lengths are in CLEVR's units. Depth is measured along the camera's axis. Every value of an
image depends on that image's numbers alone, so images may be rendered in chunks of any size.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHAPES = ("sphere", "cube", "cylinder")
PATTERNS = ("bands", "stripes", "spiral", "checks", "dots", "grid", "rings", "zigzag")
EYE = 6.1  # height of the camera
_LOOKS_AT = 8.0  # distance ahead at which its axis meets the ground
_SLANT = (EYE**2 + _LOOKS_AT**2) ** 0.5
DOWN, AHEAD = -EYE / _SLANT, _LOOKS_AT / _SLANT  # its axis: y and z
HALF_WIDTH = 0.27  # of the field of view, at depth 1
FLAT = 0.8  # half a cube's or cylinder's height, in radii; a sphere's is 1
SCENE_NUMBERS, PAINT_NUMBERS = 5, 9  # uniform numbers that `shade` takes for a scene and a solid

_GROUND = 0.31  # brightness that makes solids as bright as the ground, on average
_THIN = np.float32(0.85)  # radius of a cylinder, in radii
_PERIOD = (0.6, 0.8)  # of patterns, in radii
_SHARP = np.float32(2.2)  # how hard the edges of patterns are
_SHADOW, _CAST = np.float32(0.3), np.float32(0.7)  # strength; distance from its solid in radii
_GAMMA = np.float32(1 / 1.4)
_INF = np.float32(np.inf)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Solids:
    """The solids of n images, at most m each; all arrays are (n, m).

    Attributes:
        shown: which of them exist.
        shape: index into SHAPES.
        x, z, radius, half: centre on the ground plane, size, half the height.
        turn: about the vertical, in radians.
    """

    shown: NDArray[np.bool_]
    shape: I64
    x: F32
    z: F32
    radius: F32
    half: F32
    turn: F32


def cast(solids: Solids, size: int) -> tuple[F32, NDArray[np.int8]]:
    """What each pixel shows first: its depth (inf: ground) and solid (-1: ground), (n, H, W)."""
    n, most = solids.shown.shape
    depth = np.full((n, size, size), np.inf, np.float32)
    owner = np.full((n, size, size), -1, np.int8)
    for k in range(most):
        for shape in range(len(SHAPES)):
            rows = np.nonzero(solids.shown[:, k] & (solids.shape[:, k] == shape))[0]
            if len(rows):
                hit = _hit(solids, rows, k, shape, size)
                nearer = hit < depth[rows]
                depth[rows] = np.where(nearer, hit, depth[rows])
                owner[rows] = np.where(nearer, np.int8(k), owner[rows])
    return depth, owner


@functools.cache
def _rays(size: int) -> F32:
    """Directions through the pixels, (3, H, W), each as long as a step of depth 1 needs."""
    offset = ((np.arange(size) + 0.5) / size * 2 - 1) * HALF_WIDTH
    right, below = np.meshgrid(offset, offset)
    return np.stack([right, DOWN - below * AHEAD, AHEAD + below * DOWN]).astype(np.float32)


def _hit(solids: Solids, rows: I64, k: int, shape: int, size: int) -> F32:
    """Depth at which each ray enters solid k of some images, inf where it misses, (n, H, W)."""
    dx, dy, dz = _rays(size)
    x, z, r, half, turn = (
        values[rows, k, None, None]
        for values in (solids.x, solids.z, solids.radius, solids.half, solids.turn)
    )
    y = half - np.float32(EYE)
    if SHAPES[shape] == "sphere":
        square, middle = dx * dx + dy * dy + dz * dz, dx * x + dy * y + dz * z
        inside = middle * middle - square * (x * x + y * y + z * z - r * r)
        return np.where(inside > 0, (middle - np.sqrt(np.maximum(inside, 0))) / square, _INF)
    with np.errstate(divide="ignore", invalid="ignore"):  # rays along a face never enter
        enter, leave = _slab(y, half, dy)
        if SHAPES[shape] == "cube":
            cos: F32 = np.cos(turn)
            sin: F32 = np.sin(turn)
            for centre, ray in (
                (cos * x + sin * z, cos * dx + sin * dz),
                (cos * z - sin * x, cos * dz - sin * dx),
            ):
                near, far = _slab(centre, half, ray)
                enter, leave = np.maximum(enter, near), np.minimum(leave, far)
        else:
            square, middle = dx * dx + dz * dz, dx * x + dz * z
            inside = middle * middle - square * (x * x + z * z - (_THIN * r) ** 2)
            root = np.sqrt(np.maximum(inside, 0))
            enter = np.maximum(enter, (middle - root) / square)
            leave = np.where(inside > 0, np.minimum(leave, (middle + root) / square), 0)
    return np.where(enter < leave, enter, _INF).astype(np.float32)


def _slab(centre: F32, half: F32, ray: F32) -> tuple[F32, F32]:
    """Where rays enter and leave the space between two parallel planes."""
    inverse = 1 / ray
    one, other = (centre - half) * inverse, (centre + half) * inverse
    return np.minimum(one, other), np.maximum(one, other)


def shade(solids: Solids, depth: F32, owner: NDArray[np.int8], u: F64) -> NDArray[np.uint8]:
    """Colour every pixel: paint, light, highlight and shadow.

    Args:
        solids: what is seen.
        depth: of what each pixel shows, (n, H, W).
        owner: solid that each pixel shows, (n, H, W).
        u: uniform numbers, (n, SCENE_NUMBERS + m * PAINT_NUMBERS).

    Returns:
        Images (n, H, W, 3).
    """
    size, most = depth.shape[-1], solids.shown.shape[1]
    azimuth, height = (u[:, 0] * 2 - 1) * 0.75 * np.pi, 0.6 + 0.6 * u[:, 1]
    to_light = np.cos(height) * np.sin(azimuth), np.sin(height), -np.cos(height) * np.cos(azimuth)
    light = np.stack(to_light).astype(np.float32)  # (3, n)
    image = _ground(solids, light, u, size)

    # The pixels that show solids, as vectors; `of` is each one's row among the n * m solids.
    flat = np.flatnonzero(owner >= 0)
    scene = flat // (size * size)
    of = scene * most + owner.reshape(-1)[flat]
    ray = _rays(size).reshape(3, -1)[:, flat % (size * size)]
    x, z, r, half, turn = (
        values.reshape(-1)[of]
        for values in (solids.x, solids.z, solids.radius, solids.half, solids.turn)
    )
    shape = solids.shape.reshape(-1)[of]
    centre = np.stack([x, half - np.float32(EYE), z])
    local = ray * depth.reshape(-1)[flat] - centre  # the point of the surface, world's axes
    cos, sin = np.cos(turn), np.sin(turn)
    side, front = cos * local[0] + sin * local[2], cos * local[2] - sin * local[0]

    ball, cube = shape == SHAPES.index("sphere"), shape == SHAPES.index("cube")
    top = ~ball & (local[1] > half * np.float32(0.995))
    on_side = np.abs(side) > np.abs(front)
    to_side, to_front = np.where(on_side, np.sign(side), 0), np.where(on_side, 0, np.sign(front))
    reach = np.where(ball, r, _THIN * r)
    normal = np.where(top, 0, local / reach)
    normal[0] = np.where(cube & ~top, cos * to_side - sin * to_front, normal[0])
    normal[1] = np.where(ball, normal[1], top)
    normal[2] = np.where(cube & ~top, sin * to_side + cos * to_front, normal[2])

    paint = u[:, SCENE_NUMBERS:].reshape(-1, PAINT_NUMBERS)
    pattern = _pattern(local / r, side / r, front / r, top, paint[:, :5], of)
    light_colour, dark_colour = _colours(paint[:, 5:])
    middle, swing = (light_colour + dark_colour) / 2, (light_colour - dark_colour) / 2
    colour = middle[of] + swing[of] * np.tanh(_SHARP * pattern)[:, None]

    towards = light[:, scene]
    lambert = np.maximum((normal * towards).sum(0), 0)
    between = towards - ray / np.sqrt((ray * ray).sum(0))
    shine = (normal * between).sum(0) / np.sqrt((between * between).sum(0))
    bright = np.float32(0.42) + np.float32(0.68) * lambert
    gloss = np.float32(0.35) * np.maximum(shine, 0) ** 40
    image.reshape(-1, 3)[flat] = colour * bright[:, None] + gloss[:, None]
    shown: NDArray[np.uint8] = (np.clip(image, 0, 1) ** _GAMMA * 255).astype(np.uint8)
    return shown


def _ground(solids: Solids, light: F32, u: F64, size: int) -> F32:
    """The plain ground with a soft shadow beside every solid, (n, H, W, 3)."""
    ray = _rays(size)
    far = np.float32(-EYE) / ray[1]  # every ray points down and meets the ground
    x, z = ray[0] * far, ray[2] * far
    tone = np.ones((len(u), size, size), np.float32)
    for k in range(solids.shown.shape[1]):
        rows = np.nonzero(solids.shown[:, k])[0]
        r = solids.radius[rows, k, None, None]
        across = (x - solids.x[rows, k, None, None]) / r + _CAST * light[0, rows, None, None]
        along = (z - solids.z[rows, k, None, None]) / r + _CAST * light[2, rows, None, None]
        tone[rows] *= 1 - _SHADOW * np.exp(np.float32(-1.1) * (across**2 + along**2))
    tone *= np.float32(1.12) - np.float32(0.018) * np.hypot(x, z)
    colour = _hsv(u[:, 2], 0.04 * u[:, 3], _GROUND * (0.95 + 0.1 * u[:, 4]))
    return tone[..., None] * colour[:, None, None, :]


def _pattern(at: F32, side: F32, front: F32, top: NDArray[np.bool_], paint: F64, of: I64) -> F32:
    """The pattern at points of surfaces: > 0 is one colour, < 0 the other, (P,).

    A point has an angle about the vertical and a height; on a top, height goes on towards the
    middle, so that patterns run over the edge. Lengths are in radii.
    """
    kind = (paint[:, 0] * len(PATTERNS)).astype(np.int64)[of]
    period = _PERIOD[0] + paint[:, 1] * (_PERIOD[1] - _PERIOD[0])
    turns = np.rint(2 * np.pi * 0.85 / period)  # whole, or there would be a seam
    wave, turns, up, about = (
        values.astype(np.float32)[of]
        for values in (2 * np.pi / period, turns, 2 * np.pi * paint[:, 2], 2 * np.pi * paint[:, 3])
    )
    height = np.where(top, 2 * np.float32(FLAT) - np.hypot(side, front), at[1])
    v, a = wave * height + up, turns * np.arctan2(side, front) + about
    # rings lie about a point that faces the camera, more or less
    tilt = (paint[:, 4].astype(np.float32)[of] - np.float32(0.5)) * np.float32(0.9)
    rings = (at[0] - tilt) ** 2 + (at[1] - np.float32(0.5)) ** 2 + (at[2] + np.float32(0.8)) ** 2
    out = np.empty_like(v)
    for index, name in enumerate(PATTERNS):
        rows = np.flatnonzero(kind == index)
        out[rows] = _WAVES[name](v[rows], a[rows], (wave * np.sqrt(rings) + up)[rows])
    return out


_WAVES: dict[str, Callable[[F32, F32, F32], F32]] = {
    "bands": lambda v, a, r: np.sin(v),
    "stripes": lambda v, a, r: np.sin(a),
    "spiral": lambda v, a, r: np.sin(a + v),
    "checks": lambda v, a, r: 2 * np.sin(a) * np.sin(v),
    "dots": lambda v, a, r: np.cos(a) + np.cos(v) - np.float32(0.55),
    "grid": lambda v, a, r: np.float32(1.3) * np.maximum(np.cos(a), np.cos(v)) - np.float32(0.75),
    "rings": lambda v, a, r: np.sin(r),
    "zigzag": lambda v, a, r: np.sin(v + np.float32(3.2) * np.abs(a / np.float32(np.pi) % 2 - 1)),
}


def _colours(u: F64) -> tuple[F32, F32]:
    """Two colours of one hue for each solid, both light or both dark, (n * m, 3) each."""
    pale = (u[:, 3] < 0.5)[:, None]
    light = _hsv(u[:, 0], 0.1 + 0.35 * u[:, 1], 0.92 + 0.08 * u[:, 2])
    dark = _hsv(u[:, 0], 0.3 + 0.4 * u[:, 1], 0.07 + 0.08 * u[:, 2])
    first = np.where(pale, light, dark)
    other = first * np.where(pale, np.float32(0.62), np.float32(2.4))
    return first, other


def _hsv(hue: F64, saturation: F64, value: F64) -> F32:
    """Red, green and blue, (n, 3), of hues in turns, saturations and values."""
    away = np.abs((hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3)
    lacking = 1 - np.clip(away - 1, 0, 1)  # of each channel, in the pure colour
    colour: F32 = (value[:, None] * (1 - saturation[:, None] * lacking)).astype(np.float32)
    return colour
