"""Prometheus: raw counters and histograms by model and pod."""
