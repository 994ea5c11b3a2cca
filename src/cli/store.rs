//! `niwaki store`: the data folder of a server, from outside. It needs no server, and a backup may be taken of one that runs.

use serde_json::json;

use super::block_on;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::verbs::StoreVerb;
use crate::error::Classify;
use crate::jobs::collector;
use crate::jobs::queue::JobQueue;
use crate::settings;
use crate::store::{self, Backup, Store};

/// Does what was asked for.
pub fn run(verb: StoreVerb, output: Output) -> Result<(), Failure> {
    block_on(async {
        match verb {
            StoreVerb::Check { data } => {
                if !data.join("niwaki.sqlite").is_file() {
                    return Err(failed(&store::StoreError::NoDatabase { path: data.join("niwaki.sqlite") }));
                }
                let store = Store::open(&data).await.map_err(|e| failed(&e))?;
                let found = collector::check(&store, &queue(store.database.clone())).await.map_err(|e| failed(&e))?;
                store.close().await;
                output.answer(
                    || if found.is_empty() { "nothing is wrong".into() } else { found.join("\n") },
                    || json!({"findings": found}),
                );
                if found.is_empty() {
                    return Ok(());
                }
                let message = format!("{}: {} things are wrong", data.display(), found.len());
                Err(Failure::new(Exit::Failure, "STORE_DAMAGED", message).hint("restore what is lost from a backup"))
            }
            StoreVerb::Backup { data, to } => {
                let names = async |database| queue(database).names().await;
                let Backup { blobs, bytes, lost } = store::backup(&data, &to, names).await.map_err(|e| failed(&e))?;
                output.answer(
                    || format!("{blobs} files and {bytes} bytes copied, and the database"),
                    || json!({"to": to, "blobs": blobs, "bytes": bytes, "lost": lost}),
                );
                if !lost.is_empty() {
                    let message =
                        format!("{}: all but what is lost there was copied: {}", data.display(), lost.join("; "));
                    return Err(Failure::new(Exit::Failure, "STORE_DAMAGED", message)
                        .hint("an earlier backup may have it; to send the same file again heals it"));
                }
                output.next([format!("niwaki store check --data {}", to.display())]);
                Ok(())
            }
        }
    })
}

fn queue(database: store::Database) -> JobQueue {
    JobQueue::new(database, settings::Jobs::default())
}

fn failed(error: &impl Classify) -> Failure {
    Failure::new(Exit::Failure, error.reason(), error.to_string())
}
