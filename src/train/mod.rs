//! Supervised training: one loop, readable on one screen.

pub mod config;
