"""pictures.npz and predictions.png: some moments of a bag, spread evenly over it.

K moments, at most 24. For each image modality m of H × W pixels, physical units: rgb uint8 (K, H, W, 3), depth float32
(K, H, W) in metres with 0 for no reading.

| key | | |
|---|---|---|
| `seconds` | float64 (K,) | from the bag's start (its clock) to when the set went out |
| `row` | int64 (K,) | the set's row in sets.parquet |
| `shown` | str (S,) | what is predicted from: `all` that the set held, `without_<image>`, `without_vision` |
| `used_<shown>` | str (K,) | the modalities that this was, joined by `+`; empty: nothing was left, and the pictures are 0 |
| `recorded_<m>` | bool (K,) | whether the bag has a picture for that moment |
| `seen_<m>` | pixels | the picture recorded; 0 where there is none |
| `predicted_<m>_from_<shown>` | pixels | E[x_m | z = μ] |
| `uncertainty_<m>_from_<shown>` | float32 (K, H, W) | standard deviation of the prediction over 8 draws of z from the
posterior: of rgb the mean of the three channels' (0 to 255), of depth metres |
"""

from __future__ import annotations

MOMENTS = 24
"""The most in pictures.npz."""
SHEET = 8
"""The most on predictions.png."""
DRAWS = 8
"""Of z, for the uncertainty."""
