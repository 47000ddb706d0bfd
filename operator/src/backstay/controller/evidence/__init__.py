"""From readings of raw counters to what the judge says of each live rollout."""
