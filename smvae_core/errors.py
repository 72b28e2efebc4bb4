"""The base of all errors that bad input causes, and the one such error that several modules raise."""

from pydantic import ValidationError


class SMVAEError(Exception):
    """Bad input, explained in one sentence: where, what was expected, what was found.

    Each module raises its own subclass. The command line prints the sentence and exits with code 2.
    """


class ConfigurationError(SMVAEError):
    """A configuration file that cannot be read, or that holds an unknown key or a bad value."""


def explain(error: ValidationError) -> str:
    """Return one sentence for everything that pydantic found: each key with its path, the fault, and the value."""
    found = []
    for item in error.errors():
        key = ".".join(map(str, item["loc"]))
        # A fault of the whole has no key.
        told_key = f"'{key}': " if key else ""
        if item["type"] == "extra_forbidden":
            found.append(f"unknown key '{key}'")
        elif item["type"] == "value_error":
            # Our validators name what they expected and found; pydantic would append the whole section.
            found.append(f"{told_key}{item['ctx']['error']}")
        else:
            found.append(f"{told_key}{item['msg']}, found {item['input']!r}"[:300])
    return "; ".join(found)
