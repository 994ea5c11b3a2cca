//! The proto3 JSON mapping of API messages, with field names as in the `.proto` files and 64-bit numbers as numbers.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::DESCRIPTORS;

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
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the build encodes a valid descriptor set");
    pool.get_message_by_name(&format!("niwaki.v1.{name}")).expect("callers name messages of niwaki.v1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1;

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
    fn an_unknown_field_is_refused_by_name() {
        let error = from_str::<v1::Recipe>("Recipe", r#"{"version": 1, "stepz": []}"#).unwrap_err();
        assert!(error.to_string().contains("stepz"), "{error}");
    }
}
