"""The command ``backstay``."""
