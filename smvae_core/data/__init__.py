"""Logs and data sets as samples. Start with `logs.py`, then `samples.py`."""
