//! Writes the seeds of all targets: `seeds` fills `$SEEDS/TARGET/`. It is built as the targets are, and so has their main.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use niwaki_fuzz::seeds;

fn write() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::var_os("SEEDS").expect("$SEEDS names the folder to fill"));
    for target in seeds::TARGETS {
        let own = folder.join(target);
        std::fs::create_dir_all(&own)?;
        for (place, seed) in seeds::of(target).iter().enumerate() {
            std::fs::write(own.join(format!("seed-{place}")), seed)?;
        }
    }
    Ok(())
}

fuzz_target!(
    init: {
        write().expect("the folder can be written");
        std::process::exit(0);
    },
    |_bytes: &[u8]| {}
);
