"""The experiments of the SMVAE paper, each by one command."""
