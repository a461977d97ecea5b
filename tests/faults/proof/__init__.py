"""The proof that nothing acknowledged is lost: seeded faults against real servers, and a checker that shares no code.

PostgreSQL, Valkey and three serving processes run on loopback; every process reaches the servers through a fault proxy
of its own (`proxy`). Simulated people (`device`, `traffic`) write, listen, claim and sign out, and `history` keeps what
was invoked, acknowledged, refused and left unknown. `faults` breaks things, `run` draws them from a seed, `judge` reads
the history against the database. Nothing of k2k is imported but the embedded servers and, in `program`, the process
under test; the protocol, the SQL and the meaning of every answer are spelled out here anew.

`make faults` is the long run and, where a disk may be mounted, the story of a full one; tests/faults/test_proof.py a
slice of it, and the proof of the proof: processes that acknowledge too early, overlook late commits or repeat events
must be caught.
"""
