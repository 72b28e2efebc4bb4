"""Readers of logs and data sets."""
