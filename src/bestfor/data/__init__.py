"""Data of a run: readers of files, loaders of data sets, table schemas, the split, and the embedded world."""
