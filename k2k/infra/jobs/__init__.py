"""Background jobs on the same PostgreSQL: what is written in a transaction is done after its COMMIT, at least once."""
