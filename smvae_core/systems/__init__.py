"""One file per system of the papers: posterior network, draws, bound and settings. Start with `registry.py`."""
