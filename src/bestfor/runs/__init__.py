"""Do runs: sample, measure, fit, predict and diagnose, in a folder that keeps what each step leaves."""
