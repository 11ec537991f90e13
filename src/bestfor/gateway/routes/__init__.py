"""Answer HTTP requests, a file for each group of paths."""
