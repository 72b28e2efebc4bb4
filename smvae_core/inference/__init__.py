"""A trained model as an engine for one set at a time. Start with `engine.py`."""
