//! Numbers of any format as numbers to compute with.
