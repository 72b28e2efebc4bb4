"""Shapes of the peg and of the box around the hole, as outlines and as convex pieces that collide, in metres."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np

Peg = Literal["round", "square", "triangle"]
PEGS: tuple[str, ...] = get_args(Peg)

HOLE_DEPTH = 0.045
BOX_HALF_WIDTH = 0.075
BOX_HEIGHT = 0.09
PEG_LENGTH = 0.105
CLEARANCE = 0.0015  # between peg and hole, on each side


def outline(peg: Peg, gap: float = 0.0) -> np.ndarray:
    """Return the corners (N, 2) of the peg's cross-section, grown by `gap` on every side, counter-clockwise."""
    corners, inner_radius = {"triangle": (3, 0.0165), "square": (4, 0.021), "round": (24, 0.023)}[peg]
    angles = (np.arange(corners) + 0.5) * 2 * math.pi / corners
    radius = (inner_radius + gap) / math.cos(math.pi / corners)
    return np.asarray(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def box_pieces(peg: Peg) -> list[np.ndarray]:
    """Return the box around the hole as convex pieces, one per side of the hole, each as vertices (N, 3)."""
    hole = outline(peg, CLEARANCE)
    pieces = []
    for first, second in zip(hole, np.roll(hole, -1, axis=0)):
        start, end = (math.atan2(p[1], p[0]) for p in (first, second))
        end += 2 * math.pi if end <= start else 0.0
        corners = [a for a in math.pi / 4 + math.pi / 2 * np.arange(-4, 8) if start < a < end]
        rim = [_on_square(a) for a in (start, *corners, end)]
        flat = np.array([first, second, *rim])
        pieces.append(prism(flat, BOX_HEIGHT - HOLE_DEPTH, BOX_HEIGHT))
    return pieces


def prism(corners: np.ndarray, bottom: float, top: float) -> np.ndarray:
    """Return the vertices (2N, 3) of the prism over the corners (N, 2) of an outline, from `bottom` to `top`."""
    return np.concatenate([np.column_stack([corners, np.full(len(corners), z)]) for z in (bottom, top)])


def _on_square(angle: float) -> np.ndarray:
    direction = np.array([math.cos(angle), math.sin(angle)])
    return np.asarray(direction * BOX_HALF_WIDTH / np.abs(direction).max())
