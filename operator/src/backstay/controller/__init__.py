"""The shell: watches, asks ``decide`` what to do, and does it."""
