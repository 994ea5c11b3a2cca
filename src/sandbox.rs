//! Limits of a process that reads what came from outside.
