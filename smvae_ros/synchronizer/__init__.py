"""Stamped samples in, sets out; pure Python without ROS. Start with `set_synchronizer.py`."""
