"""What a night or a comparison did, as pages and terminal output."""
