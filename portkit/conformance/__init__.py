"""The suite: cases, the judge, the run, mutants and reports."""
