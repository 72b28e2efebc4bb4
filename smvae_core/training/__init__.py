"""A training run, from logs to a checkpoint. Start with `train.py`."""
