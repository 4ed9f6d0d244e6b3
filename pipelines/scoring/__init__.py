"""Candidates of a date into a published table of scores."""
