"""One module for each neighbour that Backstay talks to."""
