"""Generate, measure, fit, predict, diagnose: the steps of a run and the folder they leave."""
