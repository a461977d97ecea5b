"""What every bench stands on: servers of its own, peers, load, measuring and the report."""
