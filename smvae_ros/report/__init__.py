"""The report of a replay as one HTML page. Start with `write.py`, then `page.py`."""
