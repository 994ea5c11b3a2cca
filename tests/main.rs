//! The one integration test binary.

// Who may use whom, checked on the source text.
mod architecture;
// The ONNX project's own cases.
mod conformance;
// The real program: exit codes, output, recipes from the command line.
mod cli;
// Whole recipes, run by the engine without a server.
mod recipe;
// What the process that reads uploads says of hostile files, and what it costs.
mod reader;
// Runs that are broken off and gone on with end with the same bytes.
mod resume;
// Whether two graphs are the same.
mod same;
// A real server on a real socket, with the generated client.
mod server;
// Networks as PyTorch exports them.
mod zoo;
