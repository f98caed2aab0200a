"""Pictures of an episode: a strip of its decisive moments, and a short clip."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from plaudit.core.episodes import Episodes
from plaudit.tasks.base import Task

MAX_CLIP_FRAMES = 40
CLIP_WIDTH = 360


@dataclass(frozen=True)
class Film:
    """Frames of one episode with the steps after which they were taken (0 is the first observation)."""

    frames: list[np.ndarray]
    steps: list[int]

    def strip(self, most: int = 6) -> list[tuple[int, np.ndarray]]:
        """A few evenly spaced frames with their steps, the first and the last among them."""
        n = len(self.frames)
        picks = sorted({round(i * (n - 1) / max(min(most, n) - 1, 1)) for i in range(min(most, n))})
        return [(self.steps[i], self.frames[i]) for i in picks]


def shoot(task: Task, actions: torch.Tensor, seed: int, *, most: int = MAX_CLIP_FRAMES) -> Film | None:
    """Plays actions [T, ...] from a seed and films `most` evenly spaced moments at most; None without pictures."""
    T = len(actions)
    wanted = sorted({round(i * T / max(most - 1, 1)) for i in range(most)}) if most <= T else list(range(T + 1))
    batch = task.make(1, render=True)
    frames: list[np.ndarray] = []
    steps: list[int] = []
    try:
        batch.reset([seed])
        for t in range(T + 1):
            if t in wanted or t == T:
                frame = batch.render(0)
                if frame is None:
                    return None
                frames.append(np.asarray(frame))
                steps.append(t)
            if t == T or bool(batch.step(actions[t : t + 1]).done):
                break
    finally:
        batch.close()
    return Film(frames, steps)


def shoot_row(task: Task, episodes: Episodes, row: int, seed: int, *, most: int = MAX_CLIP_FRAMES) -> Film | None:
    """Films one row of episodes."""
    return shoot(task, episodes.action[row, : int(episodes.lengths[row])], seed, most=most)


def gif(film: Film, *, width: int = CLIP_WIDTH, seconds: float = 6.0) -> bytes:
    """An animated GIF of about so many seconds."""
    pictures = [_small(frame, width) for frame in film.frames]
    pause = int(max(40, min(400, 1000 * seconds / max(len(pictures), 1))))
    out = io.BytesIO()
    pauses = [pause] * (len(pictures) - 1) + [1200]
    pictures[0].save(out, format="GIF", save_all=True, append_images=pictures[1:], duration=pauses, loop=0,
                     optimize=True)
    return out.getvalue()


def png(frame: np.ndarray, *, width: int) -> bytes:
    """A PNG of that width at most."""
    out = io.BytesIO()
    _small(frame, width, colours=None).save(out, format="PNG", optimize=True)
    return out.getvalue()


def write_gif(film: Film, path: Path) -> None:
    """Writes a GIF file, atomically."""
    from plaudit.core.checkpoint import replacing

    with replacing(path) as temporary:
        Path(temporary).write_bytes(gif(film))


def data_url(content: bytes, kind: str) -> str:
    """The content as an address that a page can hold."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _small(frame: np.ndarray, width: int, colours: int | None = 128) -> Image.Image:
    picture = Image.fromarray(frame)
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    return picture if colours is None else picture.quantize(colours, dither=Image.Dither.NONE)


def captions(steps: Sequence[int], paid: Sequence[float]) -> list[str]:
    """What stands under the frames of a strip: the step, and what had been earned by then."""
    return [f"step {t} · {sum(paid[:t]):+.4g}" for t in steps]
