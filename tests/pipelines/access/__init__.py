"""Tests of pipelines.access."""
