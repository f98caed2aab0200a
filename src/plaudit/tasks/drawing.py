"""A small canvas with anti-aliasing for the frames of tasks: no OpenGL, no window, no display."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

Color = tuple[int, int, int]
Point = tuple[float, float]

PAPER: Color = (250, 249, 246)
INK: Color = (38, 44, 58)
MUTED: Color = (188, 193, 203)
SHADE: Color = (228, 230, 234)
BLUE: Color = (47, 111, 196)
ORANGE: Color = (232, 119, 52)
GREEN: Color = (56, 152, 104)
RED: Color = (206, 62, 62)
GOLD: Color = (240, 178, 46)
BROWN: Color = (140, 100, 66)


class Canvas:
    """Shapes in world coordinates (y up), drawn at `supersample` times the size and then averaged.

    Args:
        width, height: of the image in pixels.
        x, y: the world's extent (left, right), (bottom, top).
        background: the colour of the paper.
        supersample: sub-pixels along each axis; 3 gives smooth edges.

    Example:
        >>> canvas = Canvas(30, 20, x=(0, 3), y=(0, 2))
        >>> canvas.disc((1.5, 1.0), 0.5, BLUE)
        >>> image = canvas.array()
        >>> image.shape, tuple(image[10, 15].tolist()) == BLUE, tuple(image[0, 0].tolist()) == PAPER
        ((20, 30, 3), True, True)
    """

    def __init__(self, width: int, height: int, *, x: Point, y: Point, background: Color = PAPER,
                 supersample: int = 3) -> None:
        from PIL import Image, ImageDraw

        self.width, self.height, self._x, self._y, self._fine = width, height, x, y, supersample
        self.image: Image.Image = Image.new("RGB", (width * supersample, height * supersample), background)
        self._draw = ImageDraw.Draw(self.image, "RGBA")
        self.scale = width * supersample / (x[1] - x[0])
        """Sub-pixels for each unit of x."""

    def line(self, points: Sequence[Point], color: Color, width: float, *, alpha: int = 255) -> None:
        """A polyline with round joints and ends; `width` in world units."""
        pixels = [self._at(p) for p in points]
        size = max(1.0, width * self.scale)
        if size <= 2 or alpha < 255:
            self._draw.line(pixels, fill=(*color, alpha), width=round(size), joint="curve")
            return
        r = size / 2
        for px, py in pixels:
            self._draw.ellipse((px - r, py - r, px + r, py + r), fill=color)
        for (x0, y0), (x1, y1) in itertools.pairwise(pixels):
            length = math.hypot(x1 - x0, y1 - y0)
            if length > 0:
                dx, dy = r * (y1 - y0) / length, -r * (x1 - x0) / length
                self._draw.polygon([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)],
                                   fill=color)

    def disc(self, center: Point, radius: float, color: Color, *, outline: Color | None = None, width: float = 0.0,
             alpha: int = 255) -> None:
        """A filled circle, with a rim of `width` inside it where `outline` is given."""
        px, py = self._at(center)
        r = radius * self.scale
        self._draw.ellipse((px - r, py - r, px + r, py + r), fill=(*color, alpha), outline=outline,
                           width=max(1, round(width * self.scale)) if outline else 0)

    def ring(self, center: Point, radius: float, color: Color, width: float, *, alpha: int = 255) -> None:
        """A circle's line of `width`, inside the radius."""
        px, py = self._at(center)
        r = radius * self.scale
        self._draw.ellipse((px - r, py - r, px + r, py + r), outline=(*color, alpha),
                           width=max(1, round(width * self.scale)))

    def arc(self, center: Point, radius: float, start: float, stop: float, color: Color, width: float) -> None:
        """Part of a circle from angle `start` to `stop` (radians, counter-clockwise from the x axis)."""
        angles = np.linspace(start, stop, max(2, int(abs(stop - start) * 12) + 2))
        self.line([(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles], color, width)

    def polygon(self, points: Sequence[Point], color: Color, *, alpha: int = 255) -> None:
        """A filled polygon."""
        self._draw.polygon([self._at(p) for p in points], fill=(*color, alpha))

    def box(self, left: float, bottom: float, right: float, top: float, color: Color, *, corner: float = 0.0,
            alpha: int = 255) -> None:
        """A filled rectangle with rounded corners of radius `corner`."""
        (x0, y1), (x1, y0) = self._at((left, bottom)), self._at((right, top))
        self._draw.rounded_rectangle((x0, y0, x1, y1), radius=corner * self.scale, fill=(*color, alpha))

    def arrow(self, start: Point, stop: Point, color: Color, width: float, *, head: float | None = None) -> None:
        """A straight arrow; its head is `head` long (3 widths by default)."""
        dx, dy = stop[0] - start[0], stop[1] - start[1]
        length = math.hypot(dx, dy)
        if length == 0:
            return
        dx, dy, size = dx / length, dy / length, head or 3 * width
        size = min(size, length)
        neck = (stop[0] - size * dx, stop[1] - size * dy)
        self.line([start, neck], color, width)
        ax, ay = -0.6 * size * dy, 0.6 * size * dx
        self.polygon([stop, (neck[0] + ax, neck[1] + ay), (neck[0] - ax, neck[1] - ay)], color)

    def text(self, at: Point, words: str, color: Color = INK, *, size: float = 0.1, anchor: str = "mm") -> None:
        """Words `size` world units high; `anchor` as in Pillow (`mm` centres them)."""
        from PIL import ImageFont

        font = ImageFont.load_default(max(8, round(size * self.scale)))
        self._draw.text(self._at(at), words, fill=color, font=font, anchor=anchor)

    def array(self) -> np.ndarray:
        """The finished picture [height, width, 3], uint8."""
        from PIL import Image

        return np.asarray(self.image.resize((self.width, self.height), Image.Resampling.BOX))

    def _at(self, point: Point) -> Point:
        top = self.height * self._fine
        return ((point[0] - self._x[0]) * self.scale,
                top - (point[1] - self._y[0]) * top / (self._y[1] - self._y[0]))


def blend(low: Color, high: Color, share: float) -> Color:
    """A colour between two: `low` at share 0, `high` at 1."""
    a, b, c = (round(x + (y - x) * min(1.0, max(0.0, share))) for x, y in zip(low, high, strict=True))
    return a, b, c
