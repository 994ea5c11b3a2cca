//! The real program as a process of its own, for what is measured on a process: its memory, its handles, its end.

use std::process::{Child, Command, Stdio};

use super::*;

/// A server process. It is killed when this is dropped.
pub struct Service {
    pub channel: Channel,
    pub address: String,
    child: Child,
}

impl Service {
    /// Starts `niwaki serve` on a free port. `wrap` is a command that the program is an argument of, such as `prlimit`.
    pub async fn start(data: &Path, wrap: &[&str], more: &[&str]) -> Self {
        let program = env!("CARGO_BIN_EXE_niwaki");
        let data = data.to_str().unwrap();
        let mut words = wrap.to_vec();
        words.extend([program, "serve", "--listen", "127.0.0.1:0", "--data", data]);
        words.extend(more);
        let log = std::fs::File::create(Path::new(data).with_extension("log")).unwrap();
        let mut child =
            Command::new(words[0]).args(&words[1..]).stdout(Stdio::piped()).stderr(log).spawn().expect("it starts");
        let stdout = child.stdout.take().unwrap();
        let first = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
            line
        });
        let address = timeout(LIMIT, first).await.expect("it listens").unwrap().trim().to_string();
        let channel = Channel::from_shared(address.clone()).unwrap().connect().await.unwrap();
        Self { channel, address: address.trim_start_matches("http://").into(), child }
    }

    /// The memory that it has now, in bytes.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        let pages: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    /// Open files and sockets.
    pub fn handles(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until a condition holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{what} never came"));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
