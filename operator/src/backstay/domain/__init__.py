"""What Backstay decides, as values: no I/O, no clock, no logging."""
