"""The `smvae` command without the robot side. Start with `commands.py`."""
