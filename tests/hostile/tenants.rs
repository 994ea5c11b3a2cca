//! Tenants: inputs 95 to 101.
