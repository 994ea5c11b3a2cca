//! Idempotency: a create call that is repeated with the same key and content gives the first call's object.

use serde::Serialize;

use super::StoreError;
use crate::digest::Digest;

/// The key a caller chose for a create call, with what the call says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The key; empty: every call makes a new object.
    pub id: String,
    /// The digest of the call's content.
    pub digest: String,
}

impl Request {
    /// A call with this key and content.
    pub fn new(id: impl Into<String>, content: &impl Serialize) -> Self {
        let content = serde_json::to_vec(content).expect("plain structs of strings and numbers serialise");
        Self { id: id.into(), digest: Digest::of(&content).to_string() }
    }

    /// Says whether an object that was found under this key was made by a call with the same content.
    pub(crate) fn matches(&self, what: &'static str, found_digest: &str) -> Result<(), StoreError> {
        if self.digest != found_digest {
            return Err(StoreError::RequestIdReused { what, request_id: self.id.clone() });
        }
        Ok(())
    }
}
