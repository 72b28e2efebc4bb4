"""A bag through the node's own synchroniser, conversions and engine. Start with `run.py`; logs are `to_logs.py`."""
