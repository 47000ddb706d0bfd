"""Backstay: delivery of machine-learning models through Git."""
