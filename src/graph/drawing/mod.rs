//! Pictures of a graph.
//!
//! ```text
//!   graph ──▶ fold: boxes ──▶ grid: layers ──▶ order: few crossings ──▶ columns: straight paths ──▶ plan ──▶ svg
//!     └──────────────────────────────────────────────────────────────────────────────────────────────────▶ dot
//! ```
//!
//! The layout is the layered one of Sugiyama, Tagawa and Toda (1981). It is our own because the crates for it either do
//! not say where long lines run, let boxes overlap, or take minutes for some hundred boxes; and a skip connection is such
//! a long line. Everything is integers and ordered maps: equal graphs give equal bytes.

mod columns;
mod dot;
mod family;
mod fold;
mod grid;
mod label;
mod order;
mod plan;
mod svg;
#[cfg(test)]
mod tests;

pub use dot::dot;
pub use svg::svg;
