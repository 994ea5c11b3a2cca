//! A job's process, from outside.
//!
//! The process is the same program, started as `PROGRAM job-child FOLDER`, with an empty environment but for what
//! computing needs. It lives as long as its standard input: when this process ends, however it ends, the kernel kills the
//! child, or else the pipe closes and the child stops by itself. What it writes is read with bounds: lines of its output
//! are short, and of its log only so much is taken.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::protocol::{CANCEL, LEAVE, Line, MAX_LINE};

/// The hidden verb of the program.
pub const VERB: &str = "job-child";
/// Of the log of one process at most so much is taken, in bytes.
const MAX_LOG: u64 = 1 << 20;
/// How the last words of a process begin whose memory ran out; they are the standard library's.
pub const OUT_OF_MEMORY: &str = "memory allocation of ";
/// So much of the log's last line is kept, in bytes.
const LAST_WORDS: usize = 512;
/// Lines that wait for the worker; when there are more, the process waits.
const BACKLOG: usize = 16;
/// What a process may see of our environment: none of it is secret.
const ENVIRONMENT: [&str; 5] = ["PATH", "TMPDIR", "NIWAKI_LOG", "RUST_BACKTRACE", "RAYON_NUM_THREADS"];

/// A job's process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: tokio::process::Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<Result<Line, String>>,
    /// The last line of its log, or the one that says that memory ran out.
    last_words: Arc<Mutex<String>>,
    /// Reads its output and its log; ends when this is dropped.
    readers: JoinSet<()>,
}

impl Process {
    /// Starts `program` for the job in `folder`.
    pub fn start(program: &Path, folder: &Path) -> io::Result<Self> {
        Self::spawn(command(program, VERB, folder))
    }

    /// As [`Process::start`], with so many threads that compute.
    pub fn start_with_threads(program: &Path, folder: &Path, threads: usize) -> io::Result<Self> {
        let mut command = command(program, VERB, folder);
        command.env("RAYON_NUM_THREADS", threads.to_string());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let last_words = Arc::new(Mutex::new(String::new()));
        let mut readers = JoinSet::new();
        let (sender, lines) = mpsc::channel(BACKLOG);
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(read_lines(stdout, sender));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(log(stderr, child.id().unwrap_or_default(), last_words.clone()));
        }
        Ok(Self { stdin: child.stdin.take(), child, lines, last_words, readers })
    }

    /// The next line; `None` at the end of its output; an error if it wrote what is no line. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Line, String>> {
        self.lines.recv().await
    }

    /// Asks the process to stop.
    pub async fn cancel(&mut self) {
        self.ask(CANCEL).await;
    }

    /// Asks the process to save its work and stop.
    pub async fn leave(&mut self) {
        self.ask(LEAVE).await;
    }

    async fn ask(&mut self, line: &str) {
        // A process that no longer reads has ended or will be killed.
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{line}\n").as_bytes()).await;
        }
    }

    /// Lets go of the process, as the end of this one would: it stops by itself.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Ends the process at once.
    pub fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            tracing::warn!(%error, "a job's process could not be killed");
        }
    }

    /// Waits until the process has ended.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// What the log of a process that has ended says last: [`OUT_OF_MEMORY`] if it says that at all.
    pub async fn last_words(mut self) -> String {
        while self.readers.join_next().await.is_some() {}
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `PROGRAM VERB FOLDER`, with pipes, in that folder, with an empty environment but for what computing needs, and in a group
/// of its own: Ctrl-C at a terminal is meant for the server, which tells the process what to do.
pub(super) fn command(program: &Path, verb: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(verb).arg(folder).current_dir(folder).env_clear();
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
    command
}

async fn read_lines(output: impl AsyncRead + Unpin, lines: mpsc::Sender<Result<Line, String>>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than is allowed shows that a line is too long.
        let read = (&mut output).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await;
        let parsed = match read {
            Ok(0) => return,
            Ok(_) if line.len() > MAX_LINE => Err(format!("a line of more than {MAX_LINE} bytes")),
            // It was ended while it wrote.
            Ok(_) if !line.ends_with(b"\n") => return,
            Ok(_) => serde_json::from_slice(&line).map_err(|error| format!("no line of the protocol: {error}")),
            Err(error) => Err(error.to_string()),
        };
        let stop = parsed.is_err();
        if lines.send(parsed).await.is_err() || stop {
            return;
        }
    }
}

async fn log(output: impl AsyncRead + Unpin, pid: u32, last_words: Arc<Mutex<String>>) {
    let mut output = BufReader::new(output);
    let mut taken = 0;
    let mut line = Vec::new();
    while taken < MAX_LOG {
        line.clear();
        match (&mut output).take(MAX_LINE as u64).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(read) => taken += read as u64,
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        tracing::info!(pid, "job process: {text}");
        let mut last_words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        // A backtrace may follow.
        if !text.is_empty() && !last_words.starts_with(OUT_OF_MEMORY) {
            *last_words = text.chars().take(LAST_WORDS).collect();
        }
    }
    tracing::warn!(pid, "the rest of the job process's log is left out");
    // The process must not wait for a reader.
    let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `sh job-child FOLDER` in a folder whose file `job-child` is `script`.
    fn start(script: &str) -> (tempfile::TempDir, Process) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(VERB), script).unwrap();
        let process = Process::start(Path::new("/bin/sh"), folder.path()).unwrap();
        (folder, process)
    }

    #[tokio::test]
    async fn lines_come_in_order_and_the_log_does_not_mix_with_them() {
        let (_folder, mut process) = start(
            r#"echo '{"progress":{"phase":"a","step":1,"step_count":2,"done":3,"total":4,"loss":0.5,"validation_accuracy":null}}'; echo log >&2; echo '"done"'"#,
        );
        let Some(Ok(Line::Progress(progress))) = process.next().await else { panic!("no progress") };
        assert_eq!((progress.phase.as_str(), progress.loss, progress.validation_accuracy), ("a", Some(0.5), None));
        assert_eq!(process.next().await, Some(Ok(Line::Done)));
        assert_eq!(process.next().await, None);
        assert!(process.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn a_cancel_reaches_the_process_and_so_does_the_end_of_its_parent() {
        let (_folder, mut process) = start(r#"read line; test "$line" = cancel && echo '"cancelled"'"#);
        process.cancel().await;
        assert_eq!(process.next().await, Some(Ok(Line::Cancelled)));
        let (_folder, mut process) = start(r#"read line || echo '"cancelled"'"#);
        process.close();
        assert_eq!(process.next().await, Some(Ok(Line::Cancelled)));
    }

    #[tokio::test]
    async fn what_is_no_line_or_too_long_is_an_error_and_the_last_thing_read() {
        for script in ["echo nonsense; echo '\"done\"'", "head -c 1000000 /dev/zero; echo '\"done\"'"] {
            let (_folder, mut process) = start(script);
            assert!(process.next().await.unwrap().is_err(), "{script}");
            assert_eq!(process.next().await, None);
        }
    }

    #[tokio::test]
    async fn a_process_sees_nothing_of_our_environment_that_it_does_not_need() {
        let (folder, mut process) = start("env > seen; echo '\"done\"'");
        assert_eq!(process.next().await, Some(Ok(Line::Done)));
        process.wait().await.unwrap();
        let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
        assert!(seen.contains("PATH="));
        assert!(!seen.contains("CARGO"), "{seen}");
    }

    #[tokio::test]
    async fn a_flood_of_log_neither_blocks_the_process_nor_is_kept() {
        let (_folder, mut process) = start("head -c 5000000 /dev/zero >&2; echo '\"done\"'");
        assert_eq!(process.next().await, Some(Ok(Line::Done)));
    }
}
