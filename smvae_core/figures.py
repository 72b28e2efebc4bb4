"""Picture sheets: labelled rows of images, and what one picture of each modality looks like."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402  (the backend comes first)


def picture_sheet(
    path: Path, rows: Mapping[str, Sequence[np.ndarray]], columns: Sequence[str] = (), title: str = ""
) -> None:
    """Write a PNG with one labelled row of images each; the same input gives the same bytes.

    Args:
        rows: label to images, each (H, W, 3) uint8 or what `depth_picture` gives. A missing one may be None.
        columns: heading of each column.
    """
    width = max(len(images) for images in rows.values())
    figure, axes = plt.subplots(
        len(rows),
        width,
        figsize=(1.25 * width + 1.9, 1.28 * len(rows) + (0.6 if title or columns else 0.1)),
        squeeze=False,
    )
    for line, (label, images) in zip(axes, rows.items()):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9, labelpad=8)
        for axis, image in zip(line, [*images, *[None] * (width - len(images))]):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if image is not None:
                axis.imshow(image)
    for axis, heading in zip(axes[0], columns):
        axis.set_title(heading, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    # The title has a strip of its own above the headings.
    top = 1.0 - 0.3 / figure.get_figheight() if title else 1.0
    figure.tight_layout(pad=0.3, h_pad=0.35, w_pad=0.25, rect=(0.0, 0.0, 1.0, top))
    _save(figure, path)


def depth_picture(metres: np.ndarray, near: float, far: float) -> np.ndarray:
    """Depth (H, W) in metres as uint8 (H, W, 3): near is bright, beyond `far` is dark, no reading is grey."""
    closeness = np.clip((far - metres) / max(far - near, 1e-6), 0.0, 1.0)
    picture = (matplotlib.colormaps["magma"](closeness)[..., :3] * 255).astype(np.uint8)
    picture[metres <= 0.0] = 128
    return picture


def depth_range(metres: np.ndarray) -> tuple[float, float]:
    """A near and a far limit for `depth_picture` that suit all of `metres`: its 1st and 99th percentile of readings."""
    readings = metres[metres > 0.0]
    if readings.size == 0:
        return 0.0, 1.0
    return float(np.percentile(readings, 1)), float(np.percentile(readings, 99))


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        figure.savefig(whole, dpi=110, metadata={"Software": None})
        whole.replace(path)
    plt.close(figure)
