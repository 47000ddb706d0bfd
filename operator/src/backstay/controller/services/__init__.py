"""What is asked and told beside the reconciles: Git, registry, forge, Argo CD, people."""
