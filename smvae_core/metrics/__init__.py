"""What judges a model beside its errors: on which logs, likelihoods, probes, robustness, and all of it as one record."""
