"""Offline evaluation: a bag through the node's own synchroniser, conversions and model.

`run` does one bag and `many` several; a bag becomes `sets`, these are computed by `inference` on `threads`, and what a
`judge` makes of them stands in the files of `table`, `pictures`, `summary` and `bag`.
"""

from smvae_ros.replay.run import ReplayError, replay

__all__ = ["ReplayError", "replay"]
