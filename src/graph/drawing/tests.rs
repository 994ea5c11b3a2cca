//! Drawings of built-in networks, of random layers and of graphs with several inputs and outputs.
