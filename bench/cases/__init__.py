"""The cases: each holds orders and a report, nothing else."""
