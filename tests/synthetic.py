"""Synthetic dermatoscopic pictures: no patient's image, yet separable by a small net.

Tests of training and serving need images whose look depends on the class. Each class gets the
colour, border and texture that dermatoscopy textbooks name first; nothing here is medical data.
"""

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Look:
    """How one class is drawn: colours in 0..255, the rest as shares of the lesion's radius."""

    inner: tuple[int, int, int]
    outer: tuple[int, int, int]
    irregularity: float  # how far the border strays from an ellipse
    softness: float  # width of the border
    mottle: float  # strength of coarse colour patches
    texture: Literal["network", "dots", "scar", "lacunae", "scales", "vessels", "veil"]


_LOOKS: dict[str, _Look] = {
    "akiec": _Look((205, 110, 95), (220, 140, 120), 0.22, 0.30, 0.25, "scales"),
    "bcc": _Look((225, 150, 150), (215, 130, 125), 0.15, 0.15, 0.15, "vessels"),
    "bkl": _Look((165, 120, 75), (140, 95, 55), 0.10, 0.04, 0.20, "dots"),
    "df": _Look((185, 135, 105), (150, 95, 65), 0.04, 0.25, 0.10, "scar"),
    "mel": _Look((45, 30, 30), (95, 55, 40), 0.24, 0.08, 0.60, "veil"),
    "nv": _Look((110, 65, 40), (150, 95, 60), 0.05, 0.12, 0.10, "network"),
    "vasc": _Look((150, 25, 50), (185, 50, 70), 0.08, 0.06, 0.15, "lacunae"),
}


def draw_lesion(
    rng: np.random.Generator, *, code: str = "nv", width: int = 600, height: int = 450
) -> Image.Image:
    """Draw one lesion on skin.

    Args:
        rng: source of everything random; the same state gives the same picture.
        code: a class code of HAM10000.
        width, height: size in pixels.

    Returns:
        An RGB image.

    Raises:
        KeyError: ``code`` is none of the seven.
    """
    look = _LOOKS[code]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    short = min(height, width)
    centre_y = height * rng.uniform(0.44, 0.56)
    centre_x = width * rng.uniform(0.44, 0.56)
    radius = short * rng.uniform(0.24, 0.36)
    stretch, turn = rng.uniform(0.85, 1.15), rng.uniform(0, np.pi)
    dy, dx = (rows - centre_y) / radius, (columns - centre_x) / radius
    y = (dy * np.cos(turn) - dx * np.sin(turn)) * stretch
    x = (dy * np.sin(turn) + dx * np.cos(turn)) / stretch
    distance, angle = np.hypot(x, y), np.arctan2(y, x)

    border = np.ones_like(angle)
    for wave in range(2, 8):
        size = look.irregularity * rng.normal() / wave**0.5
        border += size * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    depth = np.clip(border, 0.4, 1.7) - distance  # > 0 inside
    inside = 1 / (1 + np.exp(-np.clip(depth / (look.softness / 2), -40, 40)))

    skin = np.array([228, 182, 160]) + rng.normal(0, 8, 3)
    skin_picture = skin + 7 * _noise(rng, height, width, 9)[..., None]
    blend = np.clip(distance, 0, 1)[..., None]
    lesion = np.asarray(look.inner) * (1 - blend) + np.asarray(look.outer) * blend
    lesion = lesion * (1 + look.mottle * 0.5 * _noise(rng, height, width, 7)[..., None])
    lesion = _TEXTURES[look.texture](rng, lesion, x, y)
    picture = skin_picture * (1 - inside[..., None]) + lesion * inside[..., None]

    vignette = 1 - 0.18 * ((rows / height - 0.5) ** 2 + (columns / width - 0.5) ** 2) * 2
    picture = picture * vignette[..., None] * rng.uniform(0.92, 1.06)
    picture += rng.normal(0, 3, picture.shape)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    """``image`` as a file; ``options`` are those of ``Image.save``."""
    buffer = io.BytesIO()
    # Copies: saving leaves settings in an image that another format cannot take.
    if "append_images" in options:
        options |= {"save_all": True, "append_images": [other.copy() for other in options["append_images"]]}
    image.copy().save(buffer, format_, **options)
    return buffer.getvalue()


def _noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Floats:
    """Smooth noise, about -2..2, with ``cells`` features along a side."""
    coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)


def _spots(rng: np.random.Generator, x: Floats, y: Floats, count: int, size: float) -> Floats:
    """Share 0..1 of round spots strewn over the lesion."""
    result = np.zeros_like(x)
    for _ in range(count):
        at, turn = 0.85 * rng.uniform() ** 0.5, rng.uniform(0, 2 * np.pi)
        gap = np.hypot(x - at * np.cos(turn), y - at * np.sin(turn))
        result = np.maximum(result, np.clip(1.6 - gap / (size * rng.uniform(0.7, 1.4)), 0, 1))
    return result


def _mix(picture: Floats, color: tuple[int, int, int], share: Floats) -> Floats:
    return picture * (1 - share[..., None]) + np.asarray(color) * share[..., None]


def _network(rng: np.random.Generator, picture: Floats, x: Floats, y: Floats) -> Floats:
    grid = np.maximum(np.cos(22 * x + rng.uniform(0, 6)), np.cos(22 * y + rng.uniform(0, 6)))
    return picture * (1 - 0.28 * np.clip(grid, 0, 1) ** 2)[..., None]


def _dots(rng: np.random.Generator, picture: Floats, x: Floats, y: Floats) -> Floats:
    picture = _mix(picture, (240, 225, 190), 0.9 * _spots(rng, x, y, 12, 0.05))
    return _mix(picture, (70, 45, 25), 0.9 * _spots(rng, x, y, 10, 0.05))


def _scar(rng: np.random.Generator, picture: Floats, x: Floats, y: Floats) -> Floats:
    return _mix(picture, (240, 220, 210), 0.9 * np.exp(-((np.hypot(x, y) / 0.45) ** 2)))


def _lacunae(rng: np.random.Generator, picture: Floats, x: Floats, y: Floats) -> Floats:
    return _mix(picture, (85, 5, 45), 0.85 * _spots(rng, x, y, 9, 0.16))


def _scales(rng: np.random.Generator, picture: Floats, x: Floats, y: Floats) -> Floats:
    return _mix(picture, (245, 225, 205), 0.75 * _spots(rng, x, y, 18, 0.08))


def _vessels(rng: np.random.Generator, picture: Floats, x: Floats, y: Floats) -> Floats:
    for _ in range(5):
        turn, bend = rng.uniform(0, np.pi), rng.uniform(0.05, 0.2)
        along = x * np.cos(turn) + y * np.sin(turn)
        across = -x * np.sin(turn) + y * np.cos(turn) + bend * np.sin(5 * along) - rng.uniform(-0.5, 0.5)
        picture = _mix(picture, (170, 40, 50), 0.8 * np.exp(-((across / 0.03) ** 2)))
    return _mix(picture, (95, 100, 125), 0.85 * _spots(rng, x, y, 6, 0.09))


def _veil(rng: np.random.Generator, picture: Floats, x: Floats, y: Floats) -> Floats:
    picture = _mix(picture, (100, 110, 140), 0.8 * _spots(rng, x, y, 2, 0.28))
    return _mix(picture, (15, 10, 12), 0.9 * _spots(rng, x, y, 14, 0.06))


_TEXTURES = {
    "network": _network,
    "dots": _dots,
    "scar": _scar,
    "lacunae": _lacunae,
    "scales": _scales,
    "vessels": _vessels,
    "veil": _veil,
}
