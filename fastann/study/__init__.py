"""Studies: many runs with records on disk, and what is concluded from measurements."""
