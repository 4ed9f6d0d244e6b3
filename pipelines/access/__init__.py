"""What a driver asks of files and of Spark: through the JVM, and on Spark Connect without one."""
