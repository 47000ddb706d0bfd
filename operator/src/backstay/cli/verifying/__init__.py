"""The parts of ``backstay verify``: what is looked at, what is found, and how it is told."""
