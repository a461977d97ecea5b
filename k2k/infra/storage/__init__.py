"""Where files lie: one port, a directory and a bucket behind it."""
