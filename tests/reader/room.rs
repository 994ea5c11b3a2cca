//! The room itself, around a whole process: what limits only a process.

use super::*;

#[test]
fn a_process_that_takes_more_memory_than_it_may_ends_alone() {
    // A hundred megabytes of numbers, packed. Their room is asked for in a way that cannot be refused but by the end.
    let inputs = datasets::array("'<f4'", "(1000, 25000)", &vec![0; 100_000_000]);
    let file = datasets::archive(
        &[("x.npy", inputs), ("y.npy", datasets::array("'|u1'", "(1000,)", &[1; 1000]))],
        zip::CompressionMethod::Deflated,
    );
    let folder = folder();
    std::fs::write(folder.path().join(DATA_FOLDER).join("0"), file).unwrap();
    let tight = Limits { memory_bytes: 32 << 20, ..limits() };
    let task = Task::Dataset(DataFiles { names: vec!["a.npz".into()], source: None });
    let ended = ask_within(folder.path(), task, tight).unwrap_err();
    assert!(ended.contains("SIGABRT") && ended.contains("memory allocation of"), "{ended}");
}

#[test]
fn links_in_the_folder_lead_nowhere() {
    if matches!(niwaki::sandbox::try_out().files, niwaki::sandbox::Force::Nothing(_)) {
        return;
    }
    let (folder, secret) = (folder(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(secret.path(), b"secret").unwrap();
    std::os::unix::fs::symlink(secret.path(), folder.path().join("model")).unwrap();
    let answer = ask(folder.path(), Task::Emitted("model".into())).unwrap();
    let Verdict::Refused { failure, .. } = answer.verdict else { panic!("{answer:?}") };
    assert!(failure.message.contains("denied"), "{failure:?}");
}

#[test]
fn every_wall_stands_where_the_kernel_has_them_all() {
    let answer = data(&[("x", b"x")], None).unwrap();
    assert_eq!(answer.gaps, niwaki::sandbox::try_out().gaps());
}
