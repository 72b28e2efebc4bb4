"""The error of all conversions."""

from smvae_core.errors import SMVAEError


class ConversionError(SMVAEError):
    """A message that cannot be used; the error says what was expected and what was found."""
