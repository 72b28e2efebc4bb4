"""The page of `smvae evaluate`: what the model predicts from what, with pictures."""

from html import escape
from pathlib import Path

from smvae_core.data.samples import Samples
from smvae_core.evaluation.judgement import Judgement, picture
from smvae_core.files import write_atomically
from smvae_core.model.vae import MultimodalVAE
from smvae_core.plots.predictions import picture_rows
from smvae_core.plots.sheets import picture_sheet
from smvae_core.scores import normalised

REPORT = "report.html"
"""The file name of the page."""

# An NMSE below which a modality counts as predicted, and one from which on it does not.
_GOOD, _BAD = 0.5, 0.95

_PICTURES = {
    "predictions.png": "What the cameras saw, and what was predicted",
    "subsets.png": "NMSE of each modality (column), predicted from each set (row)",
    "reliability.png": "Calibration: how often the truth lies in an interval that should hold it so often",
    "robustness.png": "Errors while one modality is spoiled, by how much",
}

_STYLE = """body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { padding: 0.2em 0.9em; text-align: left; border-bottom: 1px solid #ddd; }
img { max-width: 100%; display: block; margin: 0.5em 0 1.5em; }"""


def write_report(found: Judgement, model: MultimodalVAE, samples: Samples, folder: Path) -> Path:
    """Write report.html and its pictures into a folder; return the page.

    Args:
        samples: those that were judged, for the pictures of what cameras saw and what was predicted.
    """
    for name in _PICTURES:
        (folder / name).unlink(missing_ok=True)  # of an earlier evaluation
    picture(found, folder)
    pictures = picture_rows(model, samples)
    if pictures:
        picture_sheet(folder / "predictions.png", pictures)
    figures = "".join(
        f'<h2>{escape(title)}</h2><img src="{name}" alt="{escape(title)}">\n'
        for name, title in _PICTURES.items()
        if (folder / name).exists()
    )
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in prediction_rows(found))
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>{escape(found.checkpoint)} on {escape(found.data)}</title><style>{_STYLE}</style></head><body>
<h1>{escape(found.checkpoint)} on {escape(found.data)}</h1>
<p>{found.evaluation.samples} samples. NMSE is the mean squared error divided by that of always predicting the
training mean: 0 is perfect, 1 is no better than the mean. All figures: <a href="figures.json">figures.json</a>.</p>
<h2>What the model can and cannot predict</h2>
<table><tr><th>modality</th><th>from everything</th><th>from the others</th><th>as the step before</th><th></th>
</tr>{rows}</table>
{figures}</body></html>
"""
    path = folder / REPORT
    write_atomically(path, page.encode())
    return path


def prediction_rows(found: Judgement) -> list[tuple[str, str, str, str, str]]:
    """Return for each modality its NMSE from everything, from the others and as the step before, and what follows."""
    names = list(found.baselines.mean)
    nmse = {frozenset(row.subset): row.nmse for row in found.evaluation.subsets}
    rows = []
    for name in names:
        everything = nmse.get(frozenset(names), {}).get(name)
        others = nmse.get(frozenset(names) - {name}, {}).get(name)
        before = found.baselines.previous.get(name)
        before = None if before is None else normalised(before, found.baselines.mean[name])
        rows.append(
            (name, _shown(everything), _shown(others), _shown(before), _verdict(everything, others, len(names)))
        )
    return rows


def _verdict(everything: float | None, others: float | None, modalities: int) -> str:
    if everything is None:
        return "never differs from its training mean, so there is nothing to predict"
    seen = "is reconstructed" if everything < _GOOD else "is reconstructed in part"
    if everything >= _BAD:
        seen = "is not even reconstructed better than by its mean"
    if modalities == 1:
        return f"{seen}; there are no others to predict it from"
    if others is None or others >= _BAD:
        return f"{seen}; the others do not tell of it"
    return f"{seen}; the others {'predict it' if others < _GOOD else 'tell of it in part'}"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
