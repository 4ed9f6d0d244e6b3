"""Published examples into jagged batches: Petastorm, a rank's loader, prefetch."""
