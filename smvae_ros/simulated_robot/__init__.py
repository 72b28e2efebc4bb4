"""A simulated robot over ROS 2 topics, with sensors that can be made to fail. Start with `node.py`."""
