"""A whole real environment on one machine, as local processes on loopback."""
