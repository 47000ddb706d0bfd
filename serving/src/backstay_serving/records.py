"""What is kept of each answer: the metrics, what waits for labels, and the log where one was asked for."""

import re
import time
import uuid
from dataclasses import dataclass

from backstay_serving.feedback import Feedback, Memory, Received
from backstay_serving.metrics import Metrics
from backstay_serving.outcome import Answered
from backstay_serving.predictionlog import NoLog, PredictionLog

# What may stand in a header and a log line as it is. A longer or stranger one is replaced, never refused: an answer is
# worth more than its name.
_REQUEST_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True)
class Records:
    """Where answers are recorded.

    Attributes:
        metrics: what is counted.
        log: the prediction log.
        memory: the predictions that wait for their labels; used on the event loop's thread only.
    """

    metrics: Metrics
    log: PredictionLog | NoLog
    memory: Memory

    def answered(self, request_id: str, answered: Answered) -> None:
        """Record an answer; neither waits nor raises."""
        self.metrics.count_prediction(answered)
        if isinstance(self.log, PredictionLog):
            self.log.offer(request_id, answered)
        self.catch_up()
        self.metrics.labels.forgotten.inc(self.memory.remember(request_id, answered, time.monotonic()))

    def labelled(self, feedback: Feedback) -> Received:
        """Take the labels of an earlier answer."""
        received = self.memory.receive(feedback, time.monotonic())
        self.metrics.feedback[type(received)].inc()
        return received

    def catch_up(self) -> None:
        """Count the predictions whose label window is over by now."""
        for matured in self.memory.mature(time.monotonic()):
            self.metrics.count_labels(matured)

    def close(self) -> None:
        """Write what is still to be written."""
        if isinstance(self.log, PredictionLog):
            self.log.close()


def request_id_of(given: str) -> str:
    """Return the id of a request: that of its X-Request-Id header, or a new one where that is missing or unfit."""
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
