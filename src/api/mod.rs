//! The gRPC API: the only module that knows protobuf. One file a service.

pub mod json;

/// The messages, clients and servers generated from `proto/niwaki/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/niwaki.v1.rs"));
}

/// The encoded `google.protobuf.FileDescriptorSet` of the API, for reflection and for the recipe's JSON form.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
