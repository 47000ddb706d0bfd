"""The API server: its client, and the objects that the controller makes."""
