"""What papers report, to stand beside our own figures (log-likelihoods in nats)."""

from typing import NamedTuple


class Published(NamedTuple):
    """One row of a paper; a figure that it does not give is None.

    Attributes:
        system: as the table calls it.
        source: paper and table.
        given: modalities of the importance distribution: `x,y` or `x`.
        joint: log p(x, y).
        marginal: log p(x).
        conditional: log p(x | y).
    """

    system: str
    source: str
    given: str
    joint: float | None
    marginal: float | None
    conditional: float | None

    @property
    def consistent(self) -> bool | None:
        """Whether the row keeps log p(x, y) ≤ log p(x) and log p(x | y) ≥ log p(x, y); None where that cannot be told."""
        return consistent(self.joint, self.marginal, self.conditional)


def consistent(joint: float | None, marginal: float | None, conditional: float | None) -> bool | None:
    """Whether log p(x, y) ≤ log p(x) and log p(x | y) ≥ log p(x, y), as for every discrete y: log p(y) ≤ 0."""
    if joint is None or marginal is None:
        return None
    return joint <= marginal and (conditional is None or conditional >= joint)


def _rows(system: str, both: tuple[float | None, ...], image: tuple[float | None, ...]) -> tuple[Published, Published]:
    source = "SMVAE paper, Table 1"
    return Published(system, source, "x,y", *both), Published(system, source, "x", *image)


_CALIBRATION = "MVAE paper; 500 epochs, β annealed over 200"

TABLE_1: dict[str, tuple[Published, ...]] = {
    "fashion-mnist": (
        *_rows("smvae", (-225.10, -230.81, -232.85), (-225.14, -232.36, -232.84)),
        *_rows("jmvae", (-232.70, -232.40, -230.65), (-232.94, -232.63, -230.39)),
        *_rows("mvae", (-233.01, -232.54, -230.69), (-233.01, -232.53, -230.69)),
        *_rows("mmvae", (-235.37, -233.16, -231.32), (-231.25, -235.18, -237.64)),
        Published("vae", _CALIBRATION, "x", None, -232.758, None),
        Published("jmvae", _CALIBRATION, "x", -232.948, -232.630, -230.396),
        Published("mvae", _CALIBRATION, "x", -233.007, -232.535, -230.695),
    ),
    "mnist": (
        *_rows("smvae", (-83.41, -89.38, -86.45), (-83.46, -89.09, -86.47)),
        *_rows("jmvae", (-91.03, -90.962, -88.43), (-90.76, -90.69, -88.69)),
        *_rows("mvae", (-90.85, -90.616, -88.55), (-90.85, -90.61, -88.56)),
        *_rows("mmvae", (-91.53, -91.23, -90.64), (-91.75, -91.11, -90.01)),
        *_rows("mopoe", (-90.16, -90.29, None), (-91.36, -91.77, None)),
    ),
    "celeba": (
        *_rows("smvae", (-6000.95, -6087.91, -6085.31), (-6025.38, -6080.86, -6084.94)),
        *_rows("jmvae", (-6238.28, -6234.54, -6235.33), (-6242.19, -6237.97, -6231.46)),
        *_rows("mvae", (-6241.62, -6237.10, -6235.36), (-6242.03, -6236.92, -6234.95)),
        *_rows("mmvae", (-6513.43, -6560.57, -6516.14), (-6255.45, -6284.28, -6290.74)),
    ),
}
"""By experiment."""
