//! The one integration test binary.

// Who may use whom, checked on the source text.
mod architecture;
// The real program: exit codes, output, a recipe from the command line.
mod cli;
