"""What is done with finished runs: evaluate, analyse, report, sweep."""
