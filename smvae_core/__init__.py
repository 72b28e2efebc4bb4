"""The Set Multimodal VAE: one latent space for many senses, learned from any subset of them."""

__version__ = "0.1.0"
