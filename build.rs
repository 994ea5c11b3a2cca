//! Compiles `proto/` with protox (no protoc needed) into `OUT_DIR`: messages by prost, services by tonic-build, and the
//! descriptor set that reflection and the recipe's JSON form read at run time. ONNX's messages are compiled apart from
//! niwaki's, with a table of their fields for the walk over a file that comes before any of them is decoded.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use proc_macro2::TokenStream;
use prost::Message;
use prost_build::Comments;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};
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
    onnx(&out)
}

/// Compiles ONNX's messages into `onnx.rs` and writes the table of their fields, `onnx_schema.rs`.
fn onnx(out: &Path) -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([Path::new("proto")])?;
    compiler.open_file("proto/onnx/onnx.proto3")?;
    let descriptors = compiler.file_descriptor_set();
    let mut messages = Vec::new();
    for file in &descriptors.file {
        nest(&file.message_type, ".onnx", "", &mut messages);
    }
    fs::write(out.join("onnx_schema.rs"), schema(&messages)?)?;

    prost_build::Config::new()
        .out_dir(out)
        .bytes(["."])
        // What few attributes hold would make all of them large.
        .boxed(".onnx.AttributeProto.t")
        .boxed(".onnx.AttributeProto.g")
        .boxed(".onnx.AttributeProto.sparse_tensor")
        .boxed(".onnx.AttributeProto.tp")
        // Indented lines in comments would be taken for tests.
        .disable_comments(["."])
        .compile_fds(descriptors)?;
    Ok(())
}

/// All messages, also those within others: the full name, the path of the Rust type, and what it is.
fn nest<'d>(
    messages: &'d [DescriptorProto],
    package: &str,
    module: &str,
    found: &mut Vec<(String, String, &'d DescriptorProto)>,
) {
    for message in messages {
        let full = format!("{package}.{}", message.name());
        found.push((full.clone(), format!("{module}{}", message.name()), message));
        nest(&message.nested_type, &full, &format!("{module}{}::", words(message.name()).to_lowercase()), found);
    }
}

/// `TensorProto` as `Tensor_Proto`.
fn words(name: &str) -> String {
    let parts = name.char_indices().map(|(i, c)| if i > 0 && c.is_uppercase() { format!("_{c}") } else { c.into() });
    parts.collect()
}

/// The table: a static `Message` for each, named as the message is.
fn schema(messages: &[(String, String, &DescriptorProto)]) -> Result<String, Box<dyn Error>> {
    let name = |full: &str| words(&full.replacen(".onnx.", "", 1).replace('.', "")).to_uppercase();
    let widest = messages.iter().map(|(_, _, message)| message.field.len()).max().unwrap_or(0);
    let mut text = format!("pub(super) const MESSAGES: usize = {};\n", messages.len());
    writeln!(text, "pub(super) const FIELDS: usize = {widest};")?;
    for (id, (full, path, message)) in messages.iter().enumerate() {
        writeln!(text, "pub(super) static {}: Message = Message {{ id: {id}, name: {:?},", name(full), message.name())?;
        writeln!(text, "size: size_of::<proto::{path}>(), fields: &[")?;
        for field in &message.field {
            let (kind, size) = kind(field, |full| name(full))?;
            let (number, repeated) = (field.number(), field.label() == Label::Repeated);
            writeln!(text, "Field {{ number: {number}, name: {:?}, kind: {kind}, ", field.name())?;
            writeln!(text, "size: size_of::<{size}>(), repeated: {repeated} }},")?;
        }
        text.push_str("] };\n");
    }
    Ok(text)
}

/// How a field is written in a file, and the Rust type that holds it.
fn kind(field: &FieldDescriptorProto, name: impl Fn(&str) -> String) -> Result<(String, &'static str), Box<dyn Error>> {
    let (kind, size) = match field.r#type() {
        Type::Int32 | Type::Enum => ("Varint", "i32"),
        Type::Int64 | Type::Uint64 => ("Varint", "i64"),
        Type::Float => ("Fixed32", "f32"),
        Type::Double => ("Fixed64", "f64"),
        Type::String => ("Text", "String"),
        Type::Bytes => ("Bytes", "bytes::Bytes"),
        // A message knows its size itself.
        Type::Message => return Ok((format!("Kind::Message(&{})", name(field.type_name())), "()")),
        other => return Err(format!("field {} has type {other:?}, which the walk does not know", field.name()).into()),
    };
    Ok((format!("Kind::{kind}"), size))
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
