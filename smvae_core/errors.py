"""The root of every error that is the input's fault rather than the program's."""


class SMVAEError(Exception):
    """Bad input, told in one sentence: what was given, what was expected, what was found.

    Each module raises its own child of it. The command line prints the sentence and exits with 2.
    """
