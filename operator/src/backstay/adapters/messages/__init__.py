"""Texts for people: commit messages, pull requests and issues. Words of others are made harmless here."""
