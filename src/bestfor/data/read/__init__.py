"""Read files that people keep: tables, JSON lines, nested objects and streams, with errors that name the row."""
