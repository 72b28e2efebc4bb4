"""What holds for all tests."""

from hypothesis import settings

# No test is timed: on a machine that is busy, any example may take longer than hypothesis allows by default.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
