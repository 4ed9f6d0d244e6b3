"""What other systems learn of a night and a job: metrics, calls and lineage. Off by default."""
