"""ROS messages to arrays and back. Start with `bindings.py`."""
