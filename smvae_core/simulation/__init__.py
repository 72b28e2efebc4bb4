"""The simulated peg insertion in MuJoCo. Start with `simulate.py`."""
