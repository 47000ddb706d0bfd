"""The GitOps repository: version files, kustomizations, and the edits of them that are committed or proposed."""
