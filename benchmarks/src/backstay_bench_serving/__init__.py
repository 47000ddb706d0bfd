"""Backstay's model server beside `mlflow models serve` and MLServer, with the same model in one run."""
