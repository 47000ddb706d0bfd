"""MLflow: versions, aliases and artifacts, and the credentials for each server."""
