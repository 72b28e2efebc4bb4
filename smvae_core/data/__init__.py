"""Data on disk as samples for the model. Start with `logs.py`, then `samples.py`; formats are in `formats/`."""
