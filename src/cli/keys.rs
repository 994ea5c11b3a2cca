//! `niwaki keys`: the file of API keys. It needs no server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::args::{KeysVerb, RoleArg};
use super::failure::{Exit, Failure};
use super::output::{Output, table};
use crate::api::auth::Role;
use crate::api::keys::{self, Key, KeysError};

/// Does what was asked for.
pub fn run(verb: KeysVerb, output: Output) -> Result<(), Failure> {
    match verb {
        KeysVerb::Create { file, tenant, role, days } => {
            let role = match role {
                RoleArg::Reader => Role::Reader,
                RoleArg::Writer => Role::Writer,
            };
            let end = days.map(|days| SystemTime::now() + Duration::from_secs(u64::from(days) * 24 * 3600));
            let end = end.and_then(|end| end.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs() as i64);
            let (key, text) = keys::create(&file, &tenant, role, end).map_err(failed)?;
            output.answer(
                || text.clone(),
                || json!({"key": text, "id": key.id, "tenant": key.tenant, "role": key.role.word(), "expires": key.expires}),
            );
            output.note(format!("key {} of tenant {}: it is shown this once", key.id, key.tenant));
            output.next([
                format!("niwaki serve --set auth.keys={}", file.display()),
                "NIWAKI_KEY=... niwaki jobs ls".into(),
            ]);
        }
        KeysVerb::Ls { file } => {
            let keys = keys::read(&file).map_err(failed)?;
            output.answer(|| text(&keys), || Value::Array(keys.iter().map(to_json).collect()));
        }
        KeysVerb::Revoke { file, id } => {
            if !keys::revoke(&file, &id).map_err(failed)? {
                let message = format!("{}: there is no key {id:?}", file.display());
                return Err(Failure::new(Exit::NotFound, "KEY_NOT_FOUND", message));
            }
            output.answer(|| format!("key {id} is revoked"), || json!({"revoked": id}));
        }
    }
    Ok(())
}

fn failed(error: KeysError) -> Failure {
    Failure::new(Exit::Invalid, "KEYS", error.to_string())
}

fn text(keys: &[Key]) -> String {
    let rows = keys.iter().map(|key| {
        let expires = key.expires.clone().unwrap_or_else(|| "never".into());
        vec![key.id.clone(), key.tenant.clone(), key.role.word().into(), expires]
    });
    let header = ["id", "tenant", "role", "expires"];
    table(&header, &header, rows)
}

fn to_json(key: &Key) -> Value {
    json!({"id": key.id, "tenant": key.tenant, "role": key.role.word(), "expires": key.expires})
}
