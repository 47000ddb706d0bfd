"""Texts for people. Text from outside passes `plain` or `markdown` on its way in, so that it does nothing there."""
