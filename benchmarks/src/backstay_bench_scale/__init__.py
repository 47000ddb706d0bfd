"""How many live canaries one controller bears, on a real API server with pods that are ready and run nothing."""
