"""Picture sheets, tables in colours, curves and scatter plots, written as PNG files."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402  (the backend comes first)
from matplotlib.figure import Figure  # noqa: E402

# At this resolution a picture of 64 pixels, 67 with its gap, is drawn exactly twice as large: sharp, in few bytes.
_DPI = 107.2


def picture_sheet(
    path: Path, rows: Mapping[str, Sequence[np.ndarray | None]], columns: Sequence[str] = (), title: str = ""
) -> None:
    """Write a PNG with one labelled row of images each; the same input gives the same bytes.

    Args:
        rows: label to images, each (H, W, 3) uint8; None for a missing one.
        columns: heading of each column.
    """
    width = max(len(images) for images in rows.values())
    figure = plt.figure(figsize=(1.25 * width, 1.25 * len(rows)))
    # One axes object for all rows: matplotlib needs 20 ms for each.
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    for place, (label, images) in enumerate(rows.items()):
        # A picture and the gap after it are a square of side 1.
        row, step = _side_by_side(images, width)
        axes.imshow(row, extent=(0.0, row.shape[1] / step, place + row.shape[0] / step, place))
        axes.text(-0.06, place + row.shape[0] / step / 2, label, ha="right", va="center", fontsize=9)
    for place, heading in enumerate(columns):
        axes.text(place + 0.48, -0.06, heading, ha="center", va="bottom", fontsize=8)
    if title:
        axes.text(width / 2, -0.3 if columns else -0.06, title, ha="center", va="bottom", fontsize=11)
    axes.set(xlim=(0.0, width), ylim=(len(rows), 0.0), aspect="auto")
    axes.set_axis_off()
    # Labels lie outside the axes.
    _save(figure, path, bbox_inches="tight", pad_inches=0.05)


def depth_picture(metres: np.ndarray, near: float, far: float) -> np.ndarray:
    """Draw depth (H, W) in metres as uint8 (H, W, 3): near is bright, beyond `far` is dark, no reading is grey."""
    closeness = np.clip((far - metres) / max(far - near, 1e-6), 0.0, 1.0)
    picture = (matplotlib.colormaps["magma"](closeness)[..., :3] * 255).astype(np.uint8)
    picture[metres <= 0.0] = 128
    return picture


def depth_range(metres: np.ndarray) -> tuple[float, float]:
    """Return a near and a far limit for `depth_picture`: the 1st and 99th percentile of the readings in `metres`."""
    readings = metres[metres > 0.0]
    if readings.size == 0:
        return 0.0, 1.0
    return float(np.percentile(readings, 1)), float(np.percentile(readings, 99))


def subset_table(path: Path, nmse: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> None:
    """Write a PNG with a coloured cell for the NMSE of each modality (column) from each subset (row); 0 is best."""
    values = np.array([[row.get(name, np.nan) for name in columns] for row in nmse.values()])
    figure, axis = plt.subplots(figsize=(1.1 * len(columns) + 2.6, 0.32 * len(nmse) + 0.9))
    axis.imshow(values, cmap="RdYlGn_r", vmin=0.0, vmax=1.2, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axis.text(column, row, "–" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=8)
    axis.set_xticks(range(len(columns)), columns, fontsize=9)
    axis.set_yticks(range(len(nmse)), list(nmse), fontsize=8)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.tight_layout(pad=0.4)
    _save(figure, path)


def curves(
    path: Path, panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], x_label: str
) -> None:
    """Write a PNG with a panel for each title, and in it a line (x, y) for each label."""
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, lines) in zip(axes.flat, panels.items()):
        for label, (x, y) in lines.items():
            axis.plot(x, y, label=label, linewidth=1.4)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(x_label, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        if any(lines):
            axis.legend(fontsize=7)
    figure.tight_layout(pad=0.5)
    _save(figure, path)


def scatter(
    path: Path, panels: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str], title: str = ""
) -> None:
    """Write a PNG with a panel for each heading: points (N, 2), coloured by class (N,), an index into `names`.

    All panels have the same axes; points that are NaN are left out.
    """
    size = (3.4 * len(panels) + 1.4, 3.6)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, sharex=True, sharey=True)
    colours = matplotlib.colormaps["tab10"]
    for axis, (heading, (points, classes)) in zip(axes[0], panels.items()):
        for number, name in enumerate(names):
            here = points[classes == number]
            if not (classes == number).any():
                continue
            axis.scatter(here[:, 0], here[:, 1], s=6, color=colours(number % 10), label=name)
        axis.set(xticks=[], yticks=[])
        axis.set_title(heading, fontsize=9)
    axes[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2.0)
    if title:
        figure.suptitle(title, fontsize=10)
    figure.tight_layout(pad=0.5)
    _save(figure, path)


def _side_by_side(images: Sequence[np.ndarray | None], width: int) -> tuple[np.ndarray, int]:
    """Join the images of a row, white where one is missing; also return the pixels from one image to the next."""
    height, side = (max((x.shape[axis] for x in images if x is not None), default=1) for axis in (0, 1))
    step = max(height, side) + max(1, side // 20)
    row = np.full((height, step * width, 3), 255, np.uint8)
    for number, image in enumerate(images):
        if image is not None:
            row[: image.shape[0], number * step : number * step + image.shape[1]] = image
    return row, step


def _save(figure: Figure, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        # A twentieth larger than at zlib's own level, in half the time.
        figure.savefig(whole, dpi=_DPI, metadata={"Software": None}, pil_kwargs={"compress_level": 4}, **options)
        whole.replace(path)
    plt.close(figure)
