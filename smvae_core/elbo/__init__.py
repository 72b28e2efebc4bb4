"""The pieces of the evidence lower bound of each system: its settings, what is drawn for it, and what it costs."""
