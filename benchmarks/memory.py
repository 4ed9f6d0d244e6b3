"""Peak resident memory of processes of this machine, as the kernel counts it."""

from pathlib import Path

PROCESSES = Path("/proc")


def peak_mb(process: Path) -> float:
    """Return the peak memory in MB of a process by its folder of /proc; 0 of one that has ended."""
    try:
        _, _, after = (process / "status").read_text().partition("VmHWM:")
    except OSError:
        return 0.0
    return int(after.split()[0]) / 1024 if after else 0.0


def peak_mb_of_workers() -> float:
    """Return the peak memory in MB of Spark's largest Python worker."""
    found = [0.0]
    for process in PROCESSES.glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        if b"pyspark.daemon" in command:
            found.append(peak_mb(process))
    return max(found)
