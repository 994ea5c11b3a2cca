//! ONNX's messages, generated from `proto/onnx/onnx.proto3`. Bytes in them share the buffer that they were decoded from.
#![allow(missing_docs, dead_code, clippy::all, clippy::pedantic, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
