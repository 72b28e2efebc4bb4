"""The benchmarks: each measures against a naive way in the same run, and writes its section of RESULTS.md.

Start with `run.py`, which runs them.
"""
