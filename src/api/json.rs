//! The proto3 JSON mapping of API messages, with field names as in the `.proto` files and 64-bit numbers as numbers.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use prost_types::FileDescriptorSet;
use serde_json::Value;

use super::DESCRIPTORS;

/// The API's descriptors, with those of the details that `Job.error` carries.
pub(super) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(DESCRIPTORS).expect("the build encodes a valid descriptor set");
    let mut details = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .expect("tonic-types carries a valid descriptor set");
    // Of what tonic-types has, `google.rpc.Status` is here already.
    details.file.retain(|file| file.name() != "status.proto" && pool.get_file_by_name(file.name()).is_none());
    pool.add_file_descriptor_set(details).expect("the details of errors are complete in themselves");
    pool
});

/// `message` as JSON; `name` is its name in `niwaki.v1`.
pub fn to_value<M: Message>(name: &str, message: &M) -> Value {
    let dynamic = DynamicMessage::decode(descriptor(name), message.encode_to_vec().as_slice())
        .expect("a message that was just encoded can be decoded by its own descriptor");
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false).skip_default_fields(false);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .expect("every message of the API has a JSON form")
}

/// Reads `message` from JSON; unknown fields are refused. `name` is its name in `niwaki.v1`.
pub fn from_str<M: Message + Default>(name: &str, text: &str) -> Result<M, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let dynamic = DynamicMessage::deserialize(descriptor(name), &mut reader)?;
    reader.end()?;
    Ok(dynamic.transcode_to().expect("a generated message has the fields of its own descriptor"))
}

fn descriptor(name: &str) -> prost_reflect::MessageDescriptor {
    POOL.get_message_by_name(&format!("niwaki.v1.{name}")).expect("callers name messages of niwaki.v1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{status, v1};
    use crate::error::{Kind, Violation};
    use crate::jobs::job::Failure;

    #[test]
    fn json_has_the_names_of_the_proto_files_and_every_field() {
        let info = v1::ServerInfo {
            version: "1.2.3".into(),
            limits: Some(v1::Limits { max_upload_bytes: 1 << 40, ..Default::default() }),
            presets: vec![],
        };
        let value = to_value("ServerInfo", &info);
        assert_eq!(value["version"], "1.2.3");
        assert_eq!(value["limits"]["max_upload_bytes"], json!(1u64 << 40));
        assert_eq!(value["presets"], json!([]));
    }

    #[test]
    fn the_details_of_a_failed_jobs_error_are_shown() {
        let violations = vec![Violation::new("steps[0].train", "is too much")];
        let failure = Failure { violations, ..Failure::new(Kind::InvalidArgument, "INVALID_RECIPE", "no") };
        let job = v1::Job { error: Some(status::failure(&failure)), ..Default::default() };
        let error = &to_value("Job", &job)["error"];
        assert_eq!(error["details"][0]["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
        assert_eq!(error["details"][0]["reason"], "INVALID_RECIPE");
        assert_eq!(error["details"][1]["field_violations"][0]["field"], "steps[0].train");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = from_str::<v1::Recipe>("Recipe", r#"{"version": 1, "stepz": []}"#).unwrap_err();
        assert!(error.to_string().contains("stepz"), "{error}");
    }
}
