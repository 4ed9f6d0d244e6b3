"""Spark stages of a night: logs, examples, training, scoring, sinks, reports."""
