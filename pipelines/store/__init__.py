"""Published data sets: manifests, commits, Parquet files."""
