"""The formats of data on disk, by the name that a configuration gives them. Imports no torch."""

from smvae_core.data.formats.idx import IDX
from smvae_core.data.formats.pictures import CELEBA, PICTURES
from smvae_core.data.formats.protocol import Format
from smvae_core.data.formats.vision_touch import VISION_TOUCH

FORMATS: dict[str, Format] = {"logs": VISION_TOUCH, "idx": IDX, "celeba": CELEBA, "pictures": PICTURES}
