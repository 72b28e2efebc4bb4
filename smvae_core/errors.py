"""The root of every error that is the input's fault, and the one child of it that several modules share."""

from pydantic import ValidationError


class SMVAEError(Exception):
    """Bad input, told in one sentence: what was given, what was expected, what was found.

    Each module raises its own child of it. The command line prints the sentence and exits with 2.
    """


class ConfigurationError(SMVAEError):
    """A configuration file that cannot be read, or that holds an unknown key or a bad value."""


def explain(error: ValidationError) -> str:
    """One sentence for all that pydantic found: each key with its path, what is wrong, and the value seen."""
    found = []
    for item in error.errors():
        key = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            found.append(f"unknown key '{key}'")
        elif not key:
            # Of values that do not go together: the sentence of whoever found it, without all the values.
            found.append(item["msg"].removeprefix("Value error, "))
        else:
            found.append(f"'{key}': {item['msg']}, found {item['input']!r}"[:300])
    return "; ".join(found)
