"""The same short bag and untrained model as in test/ros."""

from ..ros.conftest import bag, checkpoint, logs

__all__ = ["bag", "checkpoint", "logs"]
