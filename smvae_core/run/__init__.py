"""A training run: what it is asked for, its steps, its state on disk, its folder and what is shown of it."""
