"""The environment variables by which the controller tells a model server what to serve; empty ones are left out."""

MODEL_NAME = "MODEL_NAME"
"""The registered model."""
MODEL_VERSION = "MODEL_VERSION"
"""Its version."""
MODEL_URI = "MODEL_URI"
"""Both, as `models:/<name>/<version>`."""
MODEL_DIGEST = "MODEL_DIGEST"
"""The digest that the artifacts must have: see `backstay_contract.digest`."""
MODEL_REVISION = "MODEL_REVISION"
"""The revision that the pod belongs to, ten hexadecimal digits."""
TRACKING_URI = "MLFLOW_TRACKING_URI"
"""The MLflow server that knows the version."""
FEATURE_SCHEMA_VERSION = "FEATURE_SCHEMA_VERSION"
"""The feature schema that the version asks its callers for."""
PORT = "PORT"
"""The TCP port to listen on."""
POD_NAME = "POD_NAME"
"""The pod's own name."""
POD_IP = "POD_IP"
"""The pod's own address, to listen on."""

VARIABLES = frozenset(
    {
        MODEL_NAME,
        MODEL_VERSION,
        MODEL_URI,
        MODEL_DIGEST,
        MODEL_REVISION,
        TRACKING_URI,
        FEATURE_SCHEMA_VERSION,
        PORT,
        POD_NAME,
        POD_IP,
    }
)
