"""The multimodal VAE and its networks. Start with `vae.py`."""
