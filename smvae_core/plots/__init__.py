"""Pictures of what a model predicts. Start with `predictions.py`."""
