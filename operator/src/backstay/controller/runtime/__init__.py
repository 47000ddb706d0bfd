"""What the shell runs on: queue, store, background work, settings, metrics and faults."""
