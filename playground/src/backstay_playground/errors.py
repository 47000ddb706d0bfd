"""The one exception that the playground shows to people: its text is a sentence with a remedy."""


class PlaygroundError(Exception):
    """Something a person can act on; the command prints it without a stack trace."""
