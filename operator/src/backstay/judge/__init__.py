"""Evidence in, verdict out. Pure: every number can be computed again from the same counters."""
