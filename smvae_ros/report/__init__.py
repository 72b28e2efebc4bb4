"""The report of a replay as one HTML page. Start with `report.py`, then `page.py`."""
