"""One validation: rows, runs, judging, the gate, findings."""
