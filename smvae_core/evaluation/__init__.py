"""What judges a model on held-out samples. Start with `judgement.py`."""
