"""Why a registry gives no answer."""


class RegistryUnavailableError(Exception):
    """The registry did not answer; the text is a sentence for people."""


class RegistryUrlError(RegistryUnavailableError, ValueError):
    """An address that no registry is asked at; the text is a sentence that names it without its password."""
