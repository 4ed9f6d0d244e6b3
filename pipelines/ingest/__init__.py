"""Raw logs and side tables into typed rows; broken rows go to quarantine."""
