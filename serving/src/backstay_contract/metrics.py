"""The metrics of a model server under the profile `backstay`: what it exports, and what the controller reads of it.

Another server is judged in the same way if it exports `REQUESTS` and `ERRORS`, and those of the rest that its
ModelDeployment's signals name. All of them are cumulative and exist at zero from the start.
"""

REQUESTS = "backstay_requests_total"
"""Every answered prediction request."""
ERRORS = "backstay_errors_total"
"""Those of them that were answered 5xx."""
REQUEST_DURATION = "backstay_request_duration_seconds"
"""Seconds from a request's arrival to its answer."""
WAITING = "backstay_waiting_requests"
"""Requests that wait for the model's answer now."""
MODEL_CALLS = "backstay_model_calls_total"
"""Calls of the model, each for one or more requests."""

PREDICTION = "backstay_prediction"
"""The scores, or the values where the model predicts no score."""
CONFIDENCE = "backstay_confidence"
"""The probability of the likeliest class."""
PREDICTIONS = "backstay_predictions_total"
"""Predicted values."""
NULL_PREDICTIONS = "backstay_null_predictions_total"
"""Those of them that are null or not a number."""
FEATURE = "backstay_feature"
"""The values of a feature, for the features of the reference profile."""
NULL_FEATURES = "backstay_null_features_total"
"""Those without a finite number."""

MATURED_PREDICTIONS = "backstay_matured_predictions_total"
"""Predicted rows whose label window is over."""
LABELLED_PREDICTIONS = "backstay_labelled_predictions_total"
"""Those of them that had a label by then."""
WRONG_PREDICTIONS = "backstay_wrong_predictions_total"
"""Those of the labelled ones whose label is another than what was predicted."""
FORGOTTEN_PREDICTIONS = "backstay_forgotten_predictions_total"
"""Predicted rows that there was no room to remember until their label."""
LABELLED_SCORE = "backstay_labelled_score"
"""The scores of labelled rows."""
FEEDBACK = "backstay_feedback_total"
"""Requests that bring labels."""

PREDICTION_LOG_LINES = "backstay_prediction_log_lines_total"
"""Lines of the prediction log that were written."""
PREDICTION_LOG_DROPPED = "backstay_prediction_log_dropped_total"
"""Those that were not."""

COUNTERS = frozenset(
    {
        REQUESTS,
        ERRORS,
        MODEL_CALLS,
        PREDICTIONS,
        NULL_PREDICTIONS,
        NULL_FEATURES,
        MATURED_PREDICTIONS,
        LABELLED_PREDICTIONS,
        WRONG_PREDICTIONS,
        FORGOTTEN_PREDICTIONS,
        FEEDBACK,
        PREDICTION_LOG_LINES,
        PREDICTION_LOG_DROPPED,
    }
)
HISTOGRAMS = frozenset({REQUEST_DURATION, PREDICTION, CONFIDENCE, FEATURE, LABELLED_SCORE})
GAUGES = frozenset({WAITING})
METRICS = COUNTERS | HISTOGRAMS | GAUGES


def buckets(histogram: str) -> str:
    """Name the series that hold the cumulative counts of a classic histogram."""
    return f"{histogram}_bucket"
