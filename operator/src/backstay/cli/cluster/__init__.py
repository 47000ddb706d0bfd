"""Commands that look at ModelDeployments in a cluster and act on their rollouts."""
