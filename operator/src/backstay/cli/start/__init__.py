"""Commands that start a GitOps repository and add models to it."""
