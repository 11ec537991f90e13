"""Load data sets: Polis exports, LaMP, LongLaMP and histories of one's own."""
