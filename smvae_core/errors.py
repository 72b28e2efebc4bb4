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
        # What is wrong with the whole has no key.
        told_key = f"'{key}': " if key else ""
        if item["type"] == "extra_forbidden":
            found.append(f"unknown key '{key}'")
        elif item["type"] == "value_error":
            # Our own validators say what they expected and found; pydantic would add the whole section.
            found.append(f"{told_key}{item['ctx']['error']}")
        else:
            found.append(f"{told_key}{item['msg']}, found {item['input']!r}"[:300])
    return "; ".join(found)
