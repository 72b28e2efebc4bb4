"""Readers of data on disk, one file per format. Start with `protocol.py`; `registry.py` gathers the formats."""
