"""Commands that replay a verdict and plan a rollout."""
