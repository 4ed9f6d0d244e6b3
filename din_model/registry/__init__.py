"""The model as files, as a version in MLflow, and as a program for online serving."""

import os

# MLflow reports its use to its makers, unless told otherwise before its import.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
