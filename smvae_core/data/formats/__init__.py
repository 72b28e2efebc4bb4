"""One reader per format of logs and data sets. Start with `registry.py`."""
