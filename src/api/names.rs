//! Resource names: `tenants/{tenant}/models/{model}` and the like.
//!
//! A name that is no name is a mistake of the caller; a well-formed name of what does not exist, or of another tenant's,
//! is "not found", in the same words. Both are told apart by the [`Caller`], who alone reads names.

use super::auth::Caller;
use super::status::RequestError;
use crate::error::Violation;
use crate::jobs::job::JobKey;
use crate::store::{is_file_name, is_nested_name};

/// A collection of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// `uploads`
    Uploads,
    /// `models`
    Models,
    /// `datasets`
    Datasets,
    /// `jobs`
    Jobs,
}

/// A resource's tenant and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
}

impl Collection {
    /// The word in names.
    pub fn word(self) -> &'static str {
        match self {
            Collection::Uploads => "uploads",
            Collection::Models => "models",
            Collection::Datasets => "datasets",
            Collection::Jobs => "jobs",
        }
    }

    /// The name of a resource.
    pub fn name(self, tenant: &str, id: &str) -> String {
        format!("tenants/{tenant}/{}/{id}", self.word())
    }

    /// The word in sentences.
    fn singular(self) -> &'static str {
        match self {
            Collection::Uploads => "upload",
            Collection::Models => "model",
            Collection::Datasets => "dataset",
            Collection::Jobs => "job",
        }
    }

    /// Reads a name that stands in `field`, whoever's it is.
    fn parse(self, name: &str, field: &str) -> Result<Name, RequestError> {
        let form =
            || RequestError::field(field, format!("{name:?} is not of the form tenants/TENANT/{}/ID", self.word()));
        let parts: Vec<&str> = name.split('/').collect();
        let ["tenants", tenant, word, id] = parts[..] else { return Err(form()) };
        if word != self.word() || !is_id(tenant) || !is_id(id) {
            return Err(form());
        }
        Ok(Name { tenant: tenant.into(), id: id.into() })
    }
}

impl Caller {
    /// Reads a request's `parent`, `tenants/{tenant}`.
    pub fn parent(&self, parent: &str) -> Result<String, RequestError> {
        match parent.strip_prefix("tenants/") {
            Some(tenant) if tenant == self.tenant => Ok(tenant.into()),
            Some(tenant) if is_id(tenant) => Err(RequestError::NoSuchTenant { tenant: tenant.into() }),
            _ => Err(RequestError::field("parent", format!("{parent:?} is not of the form tenants/TENANT"))),
        }
    }

    /// Reads a resource's name that stands in `field`. Whether another tenant's exists is not even looked up.
    pub fn parse(&self, collection: Collection, name: &str, field: &str) -> Result<Name, RequestError> {
        let name = collection.parse(name, field)?;
        if name.tenant != self.tenant {
            return Err(RequestError::NotFound { what: collection.singular(), id: name.id });
        }
        Ok(name)
    }

    /// Reads the name of a file that a job has produced.
    pub fn artifact(&self, name: &str) -> Result<(JobKey, String), RequestError> {
        match name.split_once("/artifacts/") {
            Some((job, file_name)) if is_file_name(file_name) => {
                Ok((self.parse(Collection::Jobs, job, "name")?.into(), file_name.into()))
            }
            _ => Err(RequestError::field(
                "name",
                format!("{name:?} is not of the form tenants/TENANT/jobs/JOB/artifacts/FILE_NAME"),
            )),
        }
    }
}

impl From<Name> for JobKey {
    fn from(name: Name) -> Self {
        JobKey { tenant: name.tenant, id: name.id }
    }
}

/// The name of a file that a job has produced.
pub fn artifact_name(key: &JobKey, file_name: &str) -> String {
    format!("{}/artifacts/{file_name}", Collection::Jobs.name(&key.tenant, &key.id))
}

/// Checks the name of a file that is sent: plain, never hidden, and in no folder but below.
pub fn check_file_name(name: &str, field: &str) -> Option<Violation> {
    let allowed = "1 to 255 bytes of letters, digits, '.', '_' and '-' are allowed, not beginning with a dot, \
                   and up to 7 folders of such names before it, with '/' between them";
    (!is_nested_name(name)).then(|| Violation::new(field, format!("{name:?} is no file name: {allowed}")))
}

/// Whether a text may be the name of a tenant or the id of a resource.
pub fn is_id(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::auth::Role;
    use crate::error::{Classify, Kind};
    use crate::store::StoreError;

    fn caller() -> Caller {
        Caller { tenant: "default".into(), role: Role::Writer }
    }

    #[test]
    fn names_read_back() {
        let name = Collection::Models.name("default", "0199-a");
        assert_eq!(caller().parse(Collection::Models, &name, "name").unwrap().id, "0199-a");
        let key = JobKey { tenant: "default".into(), id: "7".into() };
        let name = artifact_name(&key, "model.safetensors");
        assert_eq!(caller().artifact(&name).unwrap(), (key, "model.safetensors".to_string()));
    }

    #[test]
    fn what_is_no_name_is_the_callers_mistake_and_an_unknown_tenant_is_not_found() {
        for name in [
            "",
            "models/1",
            "tenants/default/models/",
            "tenants/default/models/A",
            "tenants/default/models/1 ",
            "tenants/default/models/1/x",
            "tenants/default/jobs/1",
            "tenants/De/models/1",
            "tenants//models/1",
            "tenants/default/models/..",
        ] {
            let refused = caller().parse(Collection::Models, name, "name").unwrap_err();
            assert_eq!(refused.kind(), Kind::InvalidArgument, "{name}");
        }
        assert_eq!(caller().parent("tenants/other").unwrap_err().kind(), Kind::NotFound);
        for parent in ["default", "tenants/", "tenants/Other", "tenants/a/b"] {
            assert_eq!(caller().parent(parent).unwrap_err().kind(), Kind::InvalidArgument);
        }
    }

    #[test]
    fn what_is_anothers_is_not_found_in_the_words_of_what_does_not_exist() {
        for collection in [Collection::Uploads, Collection::Models, Collection::Datasets, Collection::Jobs] {
            let anothers = caller().parse(collection, &collection.name("other", "1"), "name").unwrap_err();
            let missing = StoreError::NotFound { what: collection.singular(), id: "1".into() };
            assert_eq!((anothers.kind(), anothers.reason()), (missing.kind(), missing.reason()));
            assert_eq!((anothers.to_string(), anothers.metadata()), (missing.to_string(), missing.metadata()));
        }
    }

    #[test]
    fn file_names_are_plain() {
        for name in ["train-images-idx3-ubyte.gz", "a", "MODEL_1.safetensors", "train/cat/001.png", "a/b/c/d/e/f/g/h"] {
            assert_eq!(check_file_name(name, "file_name"), None);
        }
        for name in [
            "",
            ".bashrc",
            "..",
            "a\\b",
            "a\nb",
            "a b",
            "ä",
            "a%00",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/../b",
            "a/./b",
            "a/.b",
            "/etc/passwd",
            "a/b/c/d/e/f/g/h/i",
            &"x".repeat(256),
            &"x/".repeat(128),
        ] {
            assert!(check_file_name(name, "file_name").is_some(), "{name}");
        }
    }
}
