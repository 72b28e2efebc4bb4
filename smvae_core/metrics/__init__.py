"""What judges a model: on which logs, by likelihoods, probes and robustness, and all of it as one record."""
