"""A bag through the node's own synchroniser, conversions and engine. Start with `run.py`."""
