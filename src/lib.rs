//! niwaki makes neural networks smaller and says honestly what that cost.
//!
//! A client uploads a model and a data set over gRPC and asks for a *recipe*: prune, train, quantize. A queued job runs
//! it and the client gets back a smaller model and a report in which every figure was measured on the emitted file.
//!
//! # A request's way
//!
//! ```text
//! client ── CreateJob ──▶ api ──▶ jobs (queue) ──▶ worker ──▶ child process: recipe::run
//! client ◀─ WatchJob ──── api ◀── jobs ◀────────── worker ◀── progress, report, emitted files
//! ```
//!
//! # The modules, in reading order
//!
//! Each may use those above it, never those below (`tests/architecture.rs` holds them to it).
//!
//! - [`error`] the words errors are sorted by; [`settings`] how a server is set up; [`sandbox`] limits of a process;
//!   [`fault`] bugs on purpose; [`digest`] SHA-256; [`seed`] random numbers from a seed; [`tensor`] plain
//!   tensors
//! - [`graph`] what a network computes, as a value; [`reference`](mod@reference) computes it by the definitions;
//!   [`format`](mod@format) files to graphs and back
//! - [`report`] what a recipe did, as plain structs; [`data`] data sets, transforms, splits
//! - `kernels` operators over candle's tensors; [`exec`] runs a graph forwards and backwards, by a plan over the vector
//!   code of the package `niwaki-kernels` where it can
//! - [`passes`] what changes a graph; [`search`] compromises between objectives; [`train`] the training loop; [`distill`]
//!   learning from a teacher
//! - [`recipe`] what to do, step by step: the engine's single entry
//! - [`store`] files and a database; [`jobs`] the queue, and workers that run each job in a child process
//! - [`api`] the gRPC services; [`cli`] the command line
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod api;
pub mod cli;
pub mod data;
pub mod digest;
pub mod distill;
pub mod error;
pub mod exec;
pub mod fault;
pub mod format;
pub mod graph;
pub mod jobs;
pub(crate) mod kernels;
pub mod passes;
pub mod recipe;
pub mod reference;
pub mod report;
pub mod sandbox;
pub mod search;
pub mod seed;
pub mod settings;
pub mod store;
pub mod tensor;
pub mod train;
pub mod web;
