//! Compiles `proto/` with protox (no protoc needed) into `OUT_DIR`: messages by prost, services by tonic-build, and the
//! descriptor set that reflection and the recipe's JSON form read at run time.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use proc_macro2::TokenStream;
use prost::Message;
use prost_build::Comments;
use tonic_build::CodeGenBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files: Vec<PathBuf> =
        fs::read_dir("proto/niwaki/v1")?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();

    let mut compiler = protox::Compiler::new([Path::new("proto")])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    prost_build::Config::new()
        .out_dir(&out)
        .bytes(["."])
        // In one order always: what a request hears may follow from the order of its fields.
        .btree_map(["."])
        .extern_path(".google.rpc", "::tonic_types::pb")
        .service_generator(Box::new(TonicServices))
        .compile_fds(descriptors)?;
    Ok(())
}

/// What clients read and write messages with.
const CLIENT_CODEC: &str = "::tonic_prost::ProstCodec";
/// The same of servers; it has another word for what cannot be decoded.
const SERVER_CODEC: &str = "crate::api::codec::ServerCodec";

/// Writes tonic's clients and servers over prost's messages.
struct TonicServices;

impl prost_build::ServiceGenerator for TonicServices {
    fn generate(&mut self, service: prost_build::Service, buffer: &mut String) {
        let mut builder = CodeGenBuilder::new();
        builder.emit_package(true).build_transport(true);
        // Messages are in the module around the generated one.
        buffer.push_str(&builder.generate_client(&Service::new(&service, CLIENT_CODEC), "super").to_string());
        buffer.push_str(&builder.generate_server(&Service::new(&service, SERVER_CODEC), "super").to_string());
    }
}

struct Service {
    service: prost_build::Service,
    methods: Vec<Method>,
}

struct Method {
    method: prost_build::Method,
    codec: &'static str,
}

impl Service {
    fn new(service: &prost_build::Service, codec: &'static str) -> Self {
        let methods = service.methods.iter().cloned().map(|method| Method { method, codec }).collect();
        Self { service: service.clone(), methods }
    }
}

impl tonic_build::Service for Service {
    type Comment = String;
    type Method = Method;

    fn name(&self) -> &str {
        &self.service.name
    }

    fn package(&self) -> &str {
        &self.service.package
    }

    fn identifier(&self) -> &str {
        &self.service.proto_name
    }

    fn methods(&self) -> &[Method] {
        &self.methods
    }

    fn comment(&self) -> &[String] {
        leading(&self.service.comments)
    }
}

impl tonic_build::Method for Method {
    type Comment = String;

    fn name(&self) -> &str {
        &self.method.name
    }

    fn identifier(&self) -> &str {
        &self.method.proto_name
    }

    fn codec_path(&self) -> &str {
        self.codec
    }

    fn client_streaming(&self) -> bool {
        self.method.client_streaming
    }

    fn server_streaming(&self) -> bool {
        self.method.server_streaming
    }

    fn comment(&self) -> &[String] {
        leading(&self.method.comments)
    }

    fn request_response_name(&self, messages: &str, _well_known: bool) -> (TokenStream, TokenStream) {
        let path = |message: &str| format!("{messages}::{message}").parse().expect("prost names are Rust paths");
        (path(&self.method.input_type), path(&self.method.output_type))
    }
}

fn leading(comments: &Comments) -> &[String] {
    &comments.leading
}
