"""Bags: opened, repaired, named, and written from logs. Start with `reading.py`."""
