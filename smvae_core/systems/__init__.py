"""One file per system of the papers. Start with `registry.py`."""
