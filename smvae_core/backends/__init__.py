"""The ways to run a trained model, and its export for other runtimes."""
