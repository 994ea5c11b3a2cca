//! Every method of the API, called by everybody who may not. The methods are those of the descriptors, so that a new one
//! is in this test before it is in any other.

use niwaki::api::auth::Role;
use niwaki::api::{DESCRIPTORS, keys};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};
use tonic::Request;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::raw::Raw;
use super::*;

const READS: [&str; 4] = ["Get", "List", "Watch", "Download"];
/// An id that nothing has, as long as those that things have.
const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

/// What a call is answered, as it is on the wire: the code, the message, the details.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer(Code, String, Vec<u8>);

impl Answer {
    /// The answer with one id in the place of another: what is asked for is repeated in it.
    fn with(&self, old: &str, new: &str) -> Answer {
        assert_eq!(old.len(), new.len());
        let mut details = self.2.clone();
        while let Some(at) = details.windows(old.len()).position(|bytes| bytes == old.as_bytes()) {
            details[at..at + old.len()].copy_from_slice(new.as_bytes());
        }
        Answer(self.0, self.1.replace(old, new), details)
    }

    fn reason(&self) -> String {
        let status = Status::with_details(self.0, self.1.clone(), self.2.clone().into());
        status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
    }
}

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let methods: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    assert!(methods.len() >= 22, "{}", methods.len());
    methods
}

/// Calls a method with one message, whatever it streams.
async fn call(channel: &Channel, path: &str, key: Option<&str>, message: &[u8]) -> Answer {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let mut request = Request::new(futures::stream::iter([Bytes::copy_from_slice(message)]));
    if let Some(key) = key {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    client.ready().await.unwrap();
    let path: PathAndQuery = path.parse().unwrap();
    let answered = async {
        let mut answer = client.streaming(request, path, Raw).await?.into_inner();
        answer.message().await
    };
    match timeout(LIMIT, answered).await.expect("an answer") {
        Ok(_) => Answer(Code::Ok, String::new(), vec![]),
        Err(status) => Answer(status.code(), status.message().into(), status.details().to_vec()),
    }
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// A request of this method about a resource of this id (or about all of them) of this tenant. `None`: it is about no tenant.
fn request(method: &MethodDescriptor, tenant: &str, id: &str) -> Option<Vec<u8>> {
    let mut message = DynamicMessage::new(method.input());
    let name = match method.name().trim_start_matches(|c: char| c.is_lowercase()) {
        name if name.ends_with("Upload") => format!("tenants/{tenant}/uploads/{id}"),
        name if name.ends_with("Model") => format!("tenants/{tenant}/models/{id}"),
        name if name.ends_with("Dataset") => format!("tenants/{tenant}/datasets/{id}"),
        name if name.ends_with("Artifact") => format!("tenants/{tenant}/jobs/{id}/artifacts/model.safetensors"),
        _ => format!("tenants/{tenant}/jobs/{id}"),
    };
    let of = |field: &str| method.input().get_field_by_name(field).is_some();
    match (of("parent"), of("name")) {
        (true, _) => message.set_field_by_name("parent", Value::String(format!("tenants/{tenant}"))),
        (_, true) => message.set_field_by_name("name", Value::String(name)),
        _ => return None,
    }
    Some(prost_reflect::prost::Message::encode_to_vec(&message))
}

/// A server with keys, over a folder in which `tenants/default` has one of everything; the ids of these.
struct Guarded {
    server: Server,
    _folder: tempfile::TempDir,
    ids: Vec<String>,
    owner: String,
    reader: String,
    other: String,
    ended: String,
}

impl Guarded {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = Server::start(&data, 0).await;
        let (model, dataset) = first.inputs().await;
        let upload = first.put("extra.bin", b"bytes").await;
        let recipe = r#"{"version": 1, "steps": [{"evaluate": {}}]}"#;
        let job = first.create_job(&model, &dataset, recipe, "").await.unwrap().name;
        first.stop().await;
        let file = folder.path().join("keys.toml");
        let key = |tenant: &str, role, end| keys::create(&file, tenant, role, end).unwrap().1;
        let (owner, reader) = (key("default", Role::Writer, None), key("default", Role::Reader, None));
        let (other, ended) = (key("other", Role::Writer, None), key("default", Role::Writer, Some(1)));
        let mut settings = Settings { data, ..Settings::default() };
        settings.jobs.workers = 0;
        settings.auth.keys = Some(file);
        let server = Server::start_set(settings, env!("CARGO_BIN_EXE_niwaki").into()).await;
        let ids = [upload, model, dataset, job].iter().map(|name| name.rsplit('/').next().unwrap().into()).collect();
        Self { server, _folder: folder, ids, owner, reader, other, ended }
    }

    async fn call(&self, path: &str, key: Option<&str>, message: &[u8]) -> Answer {
        call(&self.server.channel, path, key, message).await
    }
}

#[tokio::test]
async fn every_method_asks_for_a_key_and_one_answer_goes_for_all_that_are_none() {
    let guarded = Guarded::start().await;
    let mut paths: Vec<String> = methods().iter().map(path).collect();
    paths.extend(["v1", "v1alpha"].map(|v| format!("/grpc.reflection.{v}.ServerReflection/ServerReflectionInfo")));
    paths.push("/no.such.Service/Method".into());
    for path in &paths {
        let missing = guarded.call(path, None, &[]).await;
        assert_eq!((missing.0, missing.reason().as_str()), (Code::Unauthenticated, "KEY_MISSING"), "{path}");
        let unknown = guarded.call(path, Some("nwk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), &[]).await;
        assert_eq!((unknown.0, unknown.reason().as_str()), (Code::Unauthenticated, "KEY_INVALID"), "{path}");
        let cut = &guarded.owner[..guarded.owner.len() - 1];
        let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJkZWZhdWx0In0.";
        for wrong in [guarded.ended.as_str(), cut, jwt, "", " "] {
            assert_eq!(guarded.call(path, Some(wrong), &[]).await, unknown, "{path} {wrong:?}");
        }
    }
    let health = HealthClient::new(guarded.server.channel.clone()).check(HealthCheckRequest::default()).await;
    assert!(health.is_ok(), "probes have no key");
    guarded.server.stop().await;
}

#[tokio::test]
async fn a_reader_may_call_what_reads_and_nothing_else() {
    let guarded = Guarded::start().await;
    for method in methods() {
        let path = path(&method);
        let message = request(&method, "default", NOBODY).unwrap_or_default();
        let answer = guarded.call(&path, Some(&guarded.reader), &message).await;
        let is_denied = (answer.0, answer.reason().as_str()) == (Code::PermissionDenied, "ROLE");
        assert_eq!(is_denied, !READS.iter().any(|verb| method.name().starts_with(verb)), "{path}: {answer:?}");
        let answer = guarded.call(&path, Some(&guarded.owner), &message).await;
        assert!(!matches!(answer.0, Code::PermissionDenied | Code::Unauthenticated), "{path}: {answer:?}");
    }
    guarded.server.stop().await;
}

#[tokio::test]
async fn what_is_anothers_is_answered_as_what_does_not_exist_to_the_last_byte() {
    let guarded = Guarded::start().await;
    for method in methods() {
        let path = path(&method);
        for id in &guarded.ids {
            let Some(anothers) = request(&method, "default", id) else { continue };
            let anothers = guarded.call(&path, Some(&guarded.other), &anothers).await;
            assert_eq!((anothers.0, anothers.reason().as_str()), (Code::NotFound, "NOT_FOUND"), "{path}");
            // The owner's id is there, this one is nowhere.
            let nowhere = request(&method, "default", NOBODY).unwrap();
            let nowhere = guarded.call(&path, Some(&guarded.other), &nowhere).await;
            assert_eq!(anothers, nowhere.with(NOBODY, id), "{path}");
            if method.input().get_field_by_name("name").is_some() {
                let own = request(&method, "other", id).unwrap();
                let own = guarded.call(&path, Some(&guarded.other), &own).await;
                // Of an artifact that is one's own it is the job that is missing.
                assert_eq!(anothers, own, "{path}");
            } else {
                let nobodys = request(&method, "nobodys", NOBODY).unwrap();
                let nobodys = guarded.call(&path, Some(&guarded.other), &nobodys).await;
                assert_eq!(anothers, nobodys.with("nobodys", "default"), "{path}");
            }
        }
    }
    // Everything is still there, for its owner.
    for method in
        methods().iter().filter(|method| matches!(method.name(), "GetUpload" | "GetModel" | "GetDataset" | "GetJob"))
    {
        let found = async |id: &String| {
            let message = request(method, "default", id).unwrap();
            guarded.call(&path(method), Some(&guarded.owner), &message).await.0 == Code::Ok
        };
        let mut seen = 0;
        for id in &guarded.ids {
            seen += u32::from(found(id).await);
        }
        assert_eq!(seen, 1, "{}", method.name());
    }
    guarded.server.stop().await;
}

#[tokio::test]
async fn names_inside_a_request_are_ones_own_too() {
    let guarded = Guarded::start().await;
    let [upload, model, dataset, _] = &guarded.ids[..] else { panic!("four ids") };
    let name = |collection: &str, id: &str| format!("tenants/default/{collection}/{id}");
    let recipe = niwaki::api::json::from_str("Recipe", r#"{"version": 1, "steps": [{"evaluate": {}}]}"#).unwrap();
    let job = |model: &str, dataset: &str| v1::CreateJobRequest {
        parent: "tenants/other".into(),
        job: Some(v1::Job {
            model: name("models", model),
            dataset: name("datasets", dataset),
            recipe: Some(v1::Recipe::clone(&recipe)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made_of = |upload: &str| v1::CreateModelRequest {
        parent: "tenants/other".into(),
        model: Some(v1::Model { files: vec![file(&name("uploads", upload))], ..Default::default() }),
        ..Default::default()
    };
    let encode = |message: &dyn Fn(&str) -> Vec<u8>, id: &str| message(id);
    use prost_reflect::prost::Message;
    let of_dataset = |id: &str| job(NOBODY, id).encode_to_vec();
    let of_upload = |id: &str| made_of(id).encode_to_vec();
    for (path, id, message) in [
        ("/niwaki.v1.JobService/CreateJob", dataset, &of_dataset as &dyn Fn(&str) -> Vec<u8>),
        ("/niwaki.v1.ModelService/CreateModel", upload, &of_upload),
    ] {
        let anothers = guarded.call(path, Some(&guarded.other), &encode(message, id)).await;
        let nowhere = guarded.call(path, Some(&guarded.other), &encode(message, NOBODY)).await;
        assert_eq!((anothers.0, &anothers), (Code::NotFound, &nowhere.with(NOBODY, id)), "{path}");
    }
    // A digest that another tenant has sent is worth nothing: the bytes must come.
    let bytes = b"bytes";
    let mut request = Request::new(v1::CreateUploadRequest {
        parent: "tenants/other".into(),
        upload: Some(v1::Upload {
            file_name: "extra.bin".into(),
            size_bytes: bytes.len() as u64,
            digest: sha256(bytes),
            ..Default::default()
        }),
        request_id: String::new(),
    });
    request.metadata_mut().insert("authorization", format!("bearer {}", guarded.other).parse().unwrap());
    let upload = guarded.server.uploads().create_upload(request).await.unwrap().into_inner();
    assert_eq!((upload.state(), upload.committed_size), (v1::upload::State::Open, 0));
    let _ = model;
    guarded.server.stop().await;
}
