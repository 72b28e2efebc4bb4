"""The fusion node. Start with `process.py`, then `fusion_node.py`."""
