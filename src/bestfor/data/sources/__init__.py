"""Load data sets: Polis exports, LaMP, LongLaMP, and tables of one's own."""
