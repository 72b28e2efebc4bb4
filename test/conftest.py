"""Settings of all tests."""

from hypothesis import settings

# No deadline: on a busy machine any example may take longer than the 200 ms that hypothesis allows by default.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
