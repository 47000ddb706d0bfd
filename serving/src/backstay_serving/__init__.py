"""A small model server for MLflow models, with the metrics that the judge reads."""
