"""How good scores are: metrics, bootstrap intervals, calibration, drift, slices, plots."""
