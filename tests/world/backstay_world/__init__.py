"""A whole world for the controller in one process: everything it talks to, on a clock that the test moves.

The controller's own code runs unchanged, from its watches to its judge. What is simulated is beyond the borders of its
process: the API server, nodes and gateway, Prometheus, Git with its forge, Argo CD, the model registry. Nothing sleeps
and there is no thread: time jumps to the next event, so that an hour takes some milliseconds and every run is the same.
"""
