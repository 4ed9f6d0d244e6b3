"""The model as files, as a version in MLflow, and as a program for online serving."""
