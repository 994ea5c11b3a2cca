//! Processes that misbehave, as shell scripts: `sh read-child FOLDER` in a folder whose file `read-child` is the script.

use super::*;

/// What becomes of a task whose process is this script.
async fn asked(script: &str, seconds: u32) -> Result<Verdict, Refusal> {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).await.unwrap();
    let settings = settings::Reader { seconds, ..settings::Reader::default() };
    let reader = Reader::new(store, Path::new("/bin/sh"), settings);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(VERB), script).unwrap();
    reader.ask(folder.path(), Task::Dataset(DataFiles { names: vec!["x".into()], source: None }), "'x'").await
}

async fn refused(script: &str) -> (Kind, String) {
    match asked(script, 60).await {
        Err(Refusal::Files { part: Part::Data, failure }) => (failure.kind, failure.reason),
        other => panic!("{script}: {other:?}"),
    }
}

#[tokio::test]
async fn a_verdict_is_the_last_word_of_a_process_that_ends_well() {
    let answer = r#"{"verdict":{"fit":[]},"peak_bytes":0,"gaps":[]}"#;
    assert_eq!(asked(&format!("echo '{answer}'"), 60).await, Ok(Verdict::Fit(vec![])));
    assert_eq!(refused(&format!("echo '{answer}'; exit 1")).await.1, "UNREADABLE");
    assert_eq!(refused(&format!("echo '{answer}'; echo more")).await.1, "UNREADABLE");
}

#[tokio::test]
async fn a_process_that_crashes_says_something_of_the_files_and_not_of_the_server() {
    let unreadable = (Kind::InvalidArgument, "UNREADABLE".to_string());
    for script in ["exit 101", "kill -SEGV $$", "kill -ABRT $$", "true", "echo '{}'", "head -c 9000000 /dev/zero"] {
        assert_eq!(refused(script).await, unreadable, "{script}");
    }
}

#[tokio::test]
async fn memory_that_runs_out_is_a_limit() {
    let memory = (Kind::ResourceExhausted, "READER_MEMORY".to_string());
    let flood = "head -c 100000 /dev/zero >&2; echo 'memory allocation of 99 bytes failed' >&2; kill -ABRT $$";
    assert_eq!(refused(flood).await, memory);
}

#[tokio::test]
async fn a_process_that_others_end_says_nothing_of_the_files() {
    let lost = |refusal: Refusal| match refusal {
        Refusal::Server(failure) => assert_eq!((failure.kind, &*failure.reason), (Kind::Unavailable, "READER_LOST")),
        Refusal::Files { .. } => panic!("{refusal:?}"),
    };
    for signal in ["KILL", "TERM"] {
        lost(asked(&format!("kill -{signal} $$"), 60).await.unwrap_err());
    }
    // These a process may have been told to ignore by whoever started the tests.
    for signal in [Signal::INT, Signal::HUP] {
        lost(died(ExitStatus::from_raw(signal.as_raw()), "", Part::Model, "'m'", 1));
    }
}

#[tokio::test]
async fn a_process_that_does_not_end_is_killed() {
    let data = tempfile::NamedTempFile::new().unwrap();
    let path = data.path().display();
    match asked(&format!("echo $$ > {path}; exec sleep 1000"), 1).await {
        Err(Refusal::Files { failure, .. }) => assert_eq!(failure.reason, "READER_TIME"),
        other => panic!("{other:?}"),
    }
    let pid = std::fs::read_to_string(data.path()).unwrap();
    let is_gone = || match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => stat.contains(") Z"),
        Err(_) => true,
    };
    while !is_gone() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_to_another_question_is_no_answer() {
    let verdict = Verdict::Fit(vec![]);
    assert!(matches!(unexpected(verdict), Refusal::Server(Failure { kind: Kind::Internal, .. })));
    let failure = Failure::new(Kind::Internal, "UNREADABLE", "'x' cannot be read: no such file");
    let refused = Verdict::Refused { part: Part::Data, failure };
    assert!(matches!(unexpected(refused), Refusal::Server(_)));
}
