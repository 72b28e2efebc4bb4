"""A simulated peg insertion in MuJoCo that writes Vision&Touch logs. Start with `simulate.py`."""
