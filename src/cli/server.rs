//! `niwaki server`: what the server says of itself.

use std::time::Duration;

use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::client::{Client, persist};
use super::failure::{Exit, Failure};
use super::output::{Output, grouped, table};
use super::verbs::ServerVerb;
use crate::api::{json, v1};

/// How long a server that is well takes to say so, at the most.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

/// Does what was asked for.
pub async fn run(client: &Client, verb: ServerVerb, output: Output) -> Result<(), Failure> {
    match verb {
        ServerVerb::Info => {
            let info = persist(|| async { client.server().get_server_info(v1::GetServerInfoRequest {}).await });
            let info = info.await?.into_inner();
            output.answer(|| text(&info), || json::to_value("ServerInfo", &info));
            output.next(["niwaki datasets put PATH".into(), "niwaki models put FILE".into()]);
        }
        ServerVerb::Health => {
            // Who asks wants to know how it is now.
            let mut request = Request::new(HealthCheckRequest::default());
            request.set_timeout(HEALTH_LIMIT);
            let health = client.health().check(request).await?.into_inner();
            if health.status() != ServingStatus::Serving {
                return Err(Failure::new(Exit::Unavailable, "NOT_SERVING", "the server is stopping"));
            }
            output.answer(|| "serving".into(), || serde_json::json!({"status": "SERVING"}));
        }
    }
    Ok(())
}

fn text(info: &v1::ServerInfo) -> String {
    let limits = info.limits.unwrap_or_default();
    let row = |name: &str, value: String| vec![name.to_string(), value];
    let rows = [
        row("version", info.version.clone()),
        row("built-in networks", info.presets.join(", ")),
        row("largest message", format!("{} B", grouped(limits.max_message_bytes))),
        row("largest chunk", format!("{} B", grouped(limits.max_chunk_bytes))),
        row("largest file", format!("{} B", grouped(limits.max_upload_bytes))),
        row("largest safetensors header", format!("{} B", grouped(limits.max_header_bytes))),
        row("tensors in a file", grouped(limits.max_tensors)),
        row("steps in a recipe", grouped(limits.max_steps.into())),
    ];
    table(&["server", "value"], &["value"], rows)
}
