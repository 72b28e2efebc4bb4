"""What judges a model beside its errors: likelihoods, probes, robustness, and all of it as one record."""
