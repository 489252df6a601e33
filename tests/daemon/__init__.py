"""The node as a process: its options, its log, its programs, and what keeps it from starting."""
