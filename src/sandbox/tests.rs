//! Walls stand around a thread, so each test builds them around one of its own. What limits a whole process is tested
//! on processes, in `tests/reader/room.rs`.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;

use super::*;

/// What `inside` finds in a locked room with a folder that has the file `given`.
fn inside<T: Send>(writable: u64, inside: impl FnOnce(&Path) -> T + Send) -> T {
    inside_of(tempfile::tempdir().unwrap(), writable, inside)
}

/// The same in a folder that has more in it.
fn inside_of<T: Send>(folder: tempfile::TempDir, writable: u64, inside: impl FnOnce(&Path) -> T + Send) -> T {
    fs::write(folder.path().join("given"), "x").unwrap();
    let limits = Limits { memory_bytes: 0, cpu_seconds: 0, file_bytes: writable, open_files: 0 };
    std::thread::scope(|scope| {
        let path = folder.path();
        let found = scope.spawn(move || {
            let room = lock(path, &limits);
            assert_eq!(room.calls, Force::Full);
            assert_eq!(room.capabilities, Force::Full);
            inside(path)
        });
        found.join().unwrap()
    })
}

#[test]
fn files_are_read_in_the_folder_and_nowhere_else() {
    if matches!(try_out().files, Force::Nothing(_)) {
        return;
    }
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    inside(0, |folder| {
        assert_eq!(fs::read(folder.join("given")).unwrap(), b"x");
        assert_eq!(folder.read_dir().unwrap().count(), 1);
        for path in ["/etc/passwd", "/proc/self/environ", "/proc/1/environ", "/", "/dev/mem", "/proc/self/mem"] {
            let denied = fs::File::open(path).unwrap_err().kind();
            assert!(matches!(denied, ErrorKind::PermissionDenied | ErrorKind::NotFound), "{path}: {denied}");
        }
        assert!(fs::read(elsewhere.path()).is_err());
        assert!(fs::read(folder.join("../..").join(elsewhere.path().strip_prefix("/").unwrap())).is_err());
        assert!(fs::write(folder.join("new"), "x").is_err());
        assert!(fs::remove_file(folder.join("given")).is_err());
    });
}

#[test]
fn a_writer_writes_plain_files_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    inside_of(folder, 1, |folder| {
        fs::write(folder.join("out/new.part"), "y").unwrap();
        fs::rename(folder.join("out/new.part"), folder.join("out/new")).unwrap();
        fs::rename(folder.join("out/new"), folder.join("moved")).unwrap();
        fs::File::open(folder.join("moved")).unwrap().sync_all().unwrap();
        fs::remove_file(folder.join("moved")).unwrap();
        assert!(std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).is_err());
        assert!(fs::hard_link(folder.join("given"), folder.join("link")).is_err());
        if !matches!(try_out().files, Force::Nothing(_)) {
            let outside = folder.parent().unwrap().join(format!("niwaki-{}", std::process::id()));
            assert!(fs::write(outside, "x").is_err());
            // Folders are hard to remove if they are made for that.
            assert!(fs::create_dir(folder.join("new")).is_err());
            assert!(fs::remove_dir(folder.join("out")).is_err());
        }
    });
}

#[test]
fn no_network_no_programs_no_processes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    inside(1, |_| {
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err());
        assert!(std::os::unix::net::UnixStream::pair().is_err());
        assert!(Command::new("/bin/true").status().is_err());
        let own = rustix::process::getpid();
        let scheduled = rustix::process::setpriority_process(Some(own), 5);
        assert!(scheduled.is_err());
        assert!(rustix::process::set_parent_process_death_signal(None).is_err());
        let parent = rustix::process::getppid().unwrap();
        assert!(rustix::process::kill_process(parent, rustix::process::Signal::CONT).is_err());
        let more = rustix::process::Rlimit { current: None, maximum: None };
        assert!(rustix::process::setrlimit(rustix::process::Resource::Core, more).is_err());
    });
}

#[test]
fn threads_start_and_count_the_same_processors_as_outside() {
    let outside = std::thread::available_parallelism().unwrap();
    let (count, sum) = inside(1, |_| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let sum: u64 = pool.install(|| {
            use rayon::prelude::*;
            (0..1000u64).into_par_iter().sum()
        });
        (std::thread::available_parallelism().unwrap(), sum)
    });
    assert_eq!((count, sum), (outside, 499_500));
}

#[test]
fn what_is_missing_is_told() {
    let room = Room {
        files: Force::Nothing("the kernel has no Landlock".into()),
        calls: Force::Full,
        capabilities: Force::Part("x".into()),
    };
    let expected = ["files are not denied: the kernel has no Landlock", "capabilities are denied in part: x"];
    assert_eq!(room.gaps(), expected);
    let full = Room { files: Force::Full, calls: Force::Full, capabilities: Force::Full };
    assert!(full.gaps().is_empty());
}
