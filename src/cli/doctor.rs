//! `niwaki doctor`: what this machine and the server are like, in a form to paste into a report. It changes nothing.

use std::path::Path;
use std::thread::available_parallelism;

use rustix::process::{Resource, getrlimit};
use serde_json::json;

use super::args::{AccessArgs, SettingsArgs};
use super::client::Client;
use super::failure::Failure;
use super::output::{Output, grouped, table};
use super::{block_on, config};
use crate::api::v1;
use crate::sandbox;
use crate::web::{MIN_ROOM, room};

/// How a finding is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Ok,
    /// It works, with less protection or speed.
    Warn,
    /// It does not work.
    Bad,
}

/// One line.
struct Finding {
    what: &'static str,
    mark: Mark,
    text: String,
}

/// Looks at everything. It does well whatever it finds: it is a report, not a test.
pub fn run(settings: &SettingsArgs, access: &AccessArgs, output: Output) -> Result<(), Failure> {
    let mut findings = vec![ok("niwaki", format!("{} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH))];
    findings.push(cpu());
    findings.push(limits());
    findings.push(walls());
    match config::load(settings) {
        Ok(loaded) => {
            findings.push(ok("settings", "can be used".into()));
            findings.push(data(&loaded.settings.data));
        }
        Err(failure) => findings.push(Finding { what: "settings", mark: Mark::Bad, text: failure.message }),
    }
    findings.push(server(access));
    let rows =
        findings.iter().map(|finding| vec![finding.what.into(), finding.mark.word().into(), finding.text.clone()]);
    let as_json = findings.iter().map(|f| json!({"what": f.what, "mark": f.mark.word(), "text": f.text}));
    output.answer(|| table(&["what", "mark", "found"], &["mark", "found"], rows), || as_json.collect());
    Ok(())
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Mark::Ok => "ok",
            Mark::Warn => "warn",
            Mark::Bad => "bad",
        }
    }
}

fn ok(what: &'static str, text: String) -> Finding {
    Finding { what, mark: Mark::Ok, text }
}

fn cpu() -> Finding {
    let threads = available_parallelism().map_or(1, usize::from);
    #[cfg(target_arch = "x86_64")]
    let features: Vec<&str> = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ]
    .into_iter()
    .filter_map(|(name, has)| has.then_some(name))
    .collect();
    #[cfg(not(target_arch = "x86_64"))]
    let features: Vec<&str> = Vec::new();
    ok(
        "processor",
        format!(
            "{threads} threads; {}",
            if features.is_empty() { "none of the features looked for".into() } else { features.join(", ") }
        ),
    )
}

fn limits() -> Finding {
    let files = getrlimit(Resource::Nofile).current;
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim();
        line.trim_end_matches(" kB").parse::<u64>().ok()
    });
    let memory = memory.map_or("unknown".into(), |kib| format!("{} MiB", grouped(kib / 1024)));
    let mark = if files.is_some_and(|files| files < 4096) { Mark::Warn } else { Mark::Ok };
    let files = files.map_or("unlimited".into(), grouped);
    Finding { what: "limits", mark, text: format!("memory {memory}, open files {files}") }
}

/// The walls around processes that read what came from outside.
fn walls() -> Finding {
    let gaps = sandbox::try_out().gaps();
    if gaps.is_empty() {
        return ok("sandbox", "files, system calls and capabilities are denied to job processes".into());
    }
    Finding { what: "sandbox", mark: Mark::Warn, text: gaps.join("; ") }
}

fn data(folder: &Path) -> Finding {
    // Before the first start there is only what it will lie in.
    let existing = folder.ancestors().find(|path| path.exists()).filter(|path| !path.as_os_str().is_empty());
    let bytes = room(existing.unwrap_or(Path::new(".")));
    let (mark, text) = match bytes {
        Ok(bytes) if bytes < MIN_ROOM => (Mark::Bad, format!("room for {} bytes only", grouped(bytes))),
        Ok(bytes) => (Mark::Ok, format!("room for {} MiB", grouped(bytes >> 20))),
        Err(error) => (Mark::Bad, error.to_string()),
    };
    Finding { what: "data folder", mark, text: format!("{}: {text}", folder.display()) }
}

fn server(access: &AccessArgs) -> Finding {
    let asked = block_on(async {
        let client = Client::connect(access).await?;
        Ok(client.server().get_server_info(v1::GetServerInfoRequest {}).await?.into_inner())
    });
    match asked {
        Ok(info) => ok("server", format!("{} answers, version {}", access.server, info.version)),
        Err(failure) => Finding { what: "server", mark: Mark::Warn, text: failure.message },
    }
}
