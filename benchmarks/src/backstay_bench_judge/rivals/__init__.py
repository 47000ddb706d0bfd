"""The judges in the field, each by its own published rule."""
