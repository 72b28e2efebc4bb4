"""Benchmarks: each is a script, measures against a naive way in the same run, and writes its part of RESULTS.md."""
