"""The tags by which a registered version tells what MLflow has no field for.

Training and evaluation write them, on the version or on its run; the controller and the command `backstay` read them.
"""

DIGEST = "backstay.dev/digest"
"""The digest of the artifacts: see `backstay_contract.digest`."""
CODE_COMMIT = "backstay.dev/code-commit"
"""The commit of the training code, 7 to 64 hexadecimal digits."""
DATA_CHECKSUM = "backstay.dev/data-checksum"
"""The checksum of the training data, as `algorithm:hex`."""
FEATURE_SCHEMA_VERSION = "backstay.dev/feature-schema-version"
"""The feature schema that the model asks its callers for."""

EVALUATION_PREFIX = "eval."
"""What every tag of an evaluation begins with; pull requests show them all."""
APPROVED = "eval.approved"
"""`true` where the evaluation approves of the version."""
APPROVER = "eval.approver"
"""The person who approved it."""
APPROVED_AT = "eval.timestamp"
"""When that was."""
