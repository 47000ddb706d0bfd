"""Commands that change what Git declares."""
