//! The file of API keys (`auth.keys`). It has no key in it, only their SHA-256: a key is 256 random bits, so its hash is as
//! good as the key for comparing and no good for calling.
//!
//! ```toml
//! [[key]]
//! id = "3f9c21ab"
//! tenant = "default"
//! role = "writer"                     # or "reader": Get, List, Watch and Download only
//! digest = "sha256:9f86d081884c7d65…"
//! expires = "2027-01-31T00:00:00Z"    # may be missing: never
//! ```
//!
//! `niwaki keys` writes it; a server that runs reads it again when it has changed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::{Config, FileFormat};
use prost_types::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use super::auth::{Caller, Role};
use super::names::is_id;
use super::secret::{self, SecretError};
use crate::digest::Digest;
use crate::store::now_ms;

/// What every key begins with, so that people and scanners for lost secrets know one when they see it.
const PREFIX: &str = "nwk_";
/// A file that was looked at is not looked at again for so long.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One key, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Names it, for people and for `niwaki keys revoke`.
    pub id: String,
    /// Whose resources it opens.
    pub tenant: String,
    /// What it allows.
    pub role: Role,
    /// The digest of the key's text, `sha256:…`.
    pub digest: String,
    /// When it ends, RFC 3339; without it never.
    pub expires: Option<String>,
}

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    key: Vec<Key>,
}

/// Why keys could not be read or written.
#[derive(Debug, Error)]
pub enum KeysError {
    /// It is no secret, or not there.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It is not what a file of keys is.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The keys of a server.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    state: Mutex<State>,
}

/// Inode, size, and the times of the last change of content and of anything else (a mode, say), in nanoseconds.
type Stamp = (u64, u64, i128, i128);

#[derive(Debug)]
struct State {
    /// What is known of the file that was read last.
    stamp: Option<Stamp>,
    looked: Instant,
    /// By the digest of the key; with the time of its end in milliseconds.
    keys: HashMap<Digest, (Caller, i64)>,
}

impl Keys {
    /// Reads the file. A server does not start with a bad one.
    pub fn open(path: &Path) -> Result<Self, KeysError> {
        let stamp = stamp(path);
        let keys = index(path, &read(path)?)?;
        let state = State { stamp, looked: Instant::now(), keys };
        Ok(Self { path: path.into(), state: Mutex::new(state) })
    }

    /// Whose key has this digest, if it is one and has not ended.
    pub fn opens(&self, key: &Digest) -> Option<Caller> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.look_again(&mut state);
        let (caller, end) = state.keys.get(key)?;
        (now_ms() < *end).then(|| caller.clone())
    }

    /// Takes up a changed file. One that is bad changes nothing: a server that runs does not lock everybody out because
    /// somebody is in the middle of editing.
    fn look_again(&self, state: &mut State) {
        if state.looked.elapsed() < LOOK_EVERY {
            return;
        }
        state.looked = Instant::now();
        let stamp = stamp(&self.path);
        if stamp == state.stamp {
            return;
        }
        match read(&self.path).and_then(|keys| index(&self.path, &keys)) {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "the file of keys was read again");
                state.keys = keys;
                state.stamp = stamp;
            }
            // It is tried again: what was wrong may be mended without a change of the content.
            Err(error) => tracing::error!(%error, "the file of keys has changed and cannot be used; the old keys stay"),
        }
    }
}

/// Reads the keys of a file.
pub fn read(path: &Path) -> Result<Vec<Key>, KeysError> {
    let text = secret::read(path)?;
    let file = Config::builder().add_source(config::File::from_str(&text, FileFormat::Toml)).build();
    let file = file.and_then(Config::try_deserialize::<KeyFile>);
    Ok(file.map_err(|error| KeysError::Content { path: path.into(), what: error.to_string() })?.key)
}

/// Makes a key, adds its digest to the file (which need not exist), and returns its text, which is nowhere else. It opens nothing
/// after `end`, in seconds since 1970.
pub fn create(path: &Path, tenant: &str, role: Role, end: Option<i64>) -> Result<(Key, String), KeysError> {
    let mut keys = if path.exists() { read(path)? } else { Vec::new() };
    let random = random().map_err(|source| KeysError::Write { path: path.into(), source })?;
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let digest = Digest::of(text.as_bytes()).to_string();
    // Of the digest, not of the key: the id may be told to everybody.
    let id = digest.trim_start_matches("sha256:")[..8].to_string();
    let expires = end.map(|seconds| Timestamp { seconds, nanos: 0 }.to_string());
    let key = Key { id, tenant: tenant.into(), role, digest, expires };
    keys.push(key.clone());
    index(path, &keys)?;
    write(path, &keys)?;
    Ok((key, text))
}

/// Takes a key out of the file; false if there is none of this id.
pub fn revoke(path: &Path, id: &str) -> Result<bool, KeysError> {
    let mut keys = read(path)?;
    let before = keys.len();
    keys.retain(|key| key.id != id);
    if keys.len() == before {
        return Ok(false);
    }
    write(path, &keys)?;
    Ok(true)
}

fn index(path: &Path, keys: &[Key]) -> Result<HashMap<Digest, (Caller, i64)>, KeysError> {
    let mut indexed = HashMap::new();
    for key in keys {
        let bad = |what: String| KeysError::Content { path: path.into(), what: format!("key {:?}: {what}", key.id) };
        if !is_id(&key.tenant) {
            return Err(bad(format!("{:?} is no tenant: 1 to 63 of a-z, 0-9 and '-' are", key.tenant)));
        }
        let digest = Digest::parse(&key.digest)
            .ok_or_else(|| bad("its digest is not `sha256:` and 64 hexadecimal digits".into()))?;
        let end = match &key.expires {
            None => i64::MAX,
            Some(text) => {
                let end: Timestamp = text.parse().map_err(|_| bad(format!("{text:?} is no time in RFC 3339")))?;
                end.seconds.saturating_mul(1000)
            }
        };
        let caller = Caller { tenant: key.tenant.clone(), role: key.role };
        if indexed.insert(digest, (caller, end)).is_some() {
            return Err(bad("another has the same digest".into()));
        }
    }
    Ok(indexed)
}

/// Puts a new file in the old one's place, complete and closed to others from its first byte on.
fn write(path: &Path, keys: &[Key]) -> Result<(), KeysError> {
    let failed = |source| KeysError::Write { path: path.into(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // tempfile makes files that only their owner may read.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    writeln!(file, "# API keys of niwaki, as digests. `niwaki keys` writes this file.").map_err(failed)?;
    for Key { id, tenant, role, digest, expires } in keys {
        let expires = expires.as_ref().map(|time| format!("expires = {time:?}\n")).unwrap_or_default();
        let role = role.word();
        write!(file, "\n[[key]]\nid = {id:?}\ntenant = {tenant:?}\nrole = {role:?}\ndigest = {digest:?}\n{expires}")
            .map_err(failed)?;
    }
    if let Ok(old) = fs::metadata(path) {
        // Who could read the old file can read the new one: often it is root who writes, and a user without rights who reads.
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid())).map_err(failed)?;
        fs::set_permissions(file.path(), old.permissions()).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// 256 bits that nobody can guess.
fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (content, any) =
        (nanos(metadata.mtime(), metadata.mtime_nsec()), nanos(metadata.ctime(), metadata.ctime_nsec()));
    Some((metadata.ino(), metadata.size(), content, any))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(keys: &Keys, key: &str) -> Option<Caller> {
        keys.opens(&Digest::of(key.as_bytes()))
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        (folder, path)
    }

    #[test]
    fn a_new_key_opens_its_tenant_and_is_not_in_the_file() {
        let (_folder, path) = file();
        let (_, writer) = create(&path, "a", Role::Writer, None).unwrap();
        let (_, reader) = create(&path, "b", Role::Reader, None).unwrap();
        let keys = Keys::open(&path).unwrap();
        assert_eq!(caller(&keys, &writer), Some(Caller { tenant: "a".into(), role: Role::Writer }));
        assert_eq!(caller(&keys, &reader), Some(Caller { tenant: "b".into(), role: Role::Reader }));
        for wrong in ["", "nwk_", &writer[..writer.len() - 1], &writer.to_lowercase()] {
            assert_eq!(caller(&keys, wrong), None, "{wrong}");
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&writer[4..]) && text.contains("sha256:"), "{text}");
    }

    #[test]
    fn a_key_ends_when_its_time_has_come() {
        let (_folder, path) = file();
        let (_, ended) = create(&path, "a", Role::Writer, Some(1)).unwrap();
        let later = now_ms() / 1000 + 3600;
        let (_, valid) = create(&path, "a", Role::Writer, Some(later)).unwrap();
        let keys = Keys::open(&path).unwrap();
        assert_eq!((caller(&keys, &ended).is_some(), caller(&keys, &valid).is_some()), (false, true));
    }

    #[test]
    fn a_key_that_is_taken_out_of_the_file_is_taken_from_a_running_server_and_a_bad_file_changes_nothing() {
        let (_folder, path) = file();
        let (key, text) = create(&path, "a", Role::Writer, None).unwrap();
        let keys = Keys::open(&path).unwrap();
        let look_now = || keys.state.lock().unwrap().looked -= LOOK_EVERY;
        let good = fs::read(&path).unwrap();
        fs::write(&path, "[[key]]\nid = 7").unwrap();
        look_now();
        assert!(caller(&keys, &text).is_some());
        fs::write(&path, good).unwrap();
        // What cannot be read now is read as soon as it can, although its content is the same.
        let mode = |mode| fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let (_, second) = create(&path, "b", Role::Writer, None).unwrap();
        mode(0o644);
        look_now();
        assert_eq!(caller(&keys, &second), None);
        mode(0o600);
        look_now();
        assert!(caller(&keys, &second).is_some());
        assert!(revoke(&path, &key.id).unwrap());
        assert!(!revoke(&path, &key.id).unwrap());
        look_now();
        assert_eq!(caller(&keys, &text), None);
    }

    #[test]
    fn a_file_of_keys_says_which_of_them_is_bad() {
        let (_folder, path) = file();
        let digest = Digest::of(b"x").to_string();
        let entry = |tenant: &str, digest: &str, rest: &str| {
            format!("[[key]]\nid = \"k1\"\ntenant = {tenant:?}\nrole = \"reader\"\ndigest = {digest:?}\n{rest}\n")
        };
        let good = entry("a", &digest, "");
        for (text, word) in [
            (entry("A b", &digest, ""), "k1"),
            (entry("a", "sha256:12", ""), "64 hexadecimal"),
            (entry("a", &digest, "expires = \"soon\""), "soon"),
            (entry("a", &digest, "secret = \"x\""), "secret"),
            (good.replace("reader", "admin"), "admin"),
            (format!("{good}{good}"), "same digest"),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let error = Keys::open(&path).unwrap_err().to_string();
            assert!(error.contains("keys.toml") && error.contains(word), "{error}");
        }
    }
}
