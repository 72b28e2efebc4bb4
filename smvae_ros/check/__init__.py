"""Before the launch: would the node fuse what a robot or a bag sends? Start with `run.py`."""
