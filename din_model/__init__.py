"""The Deep Interest Network in plain PyTorch; never imports pyspark."""
