//! Who may use whom: the rules of `docs/architecture.md`, checked on the source text.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the bottom to the top: each may use itself and those before it.
const ORDER: &str = "error fault settings digest sandbox seed tensor graph reference format report data kernels exec passes search train distill recipe store \
     jobs web api cli";
/// Crates (by the beginning of their names) and the modules that may use them.
const FOREIGN: [(&str, &str); 7] = [
    ("candle_", "kernels exec"),
    ("tokio", "store jobs web api cli"),
    ("tonic", "api cli"),
    ("prost", "api format"),
    ("clap", "cli"),
    ("sqlx", "store jobs"),
    ("object_store", "store"),
];
/// Names that say nothing.
const EMPTY_NAMES: &str = "utils common helpers types manager";
const MAX_LINES: usize = 800;

fn lists(words: &str, word: &str) -> bool {
    words.split(' ').any(|w| w == word)
}

/// What is wrong with one file of the module `module`. Its unit tests may use what they like.
fn violations(module: &str, source: &str) -> Vec<String> {
    let rank = |name: &str| ORDER.split(' ').position(|m| m == name);
    let mut found = Vec::new();
    let tested = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    for line in tested.lines().map(|line| line.split("//").next().unwrap_or("").trim()) {
        // `crate::x`, also without what follows; `use crate::{x, y}` is not written here, so that each use is seen.
        for path in line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':') {
            let Some((first, rest)) = path.split_once("::") else { continue };
            let used = rest.split("::").next().unwrap_or("");
            if first == "crate" && (used.is_empty() || rank(used) > rank(module)) {
                found.push(format!("{module} must not use crate::{used}: {line}"));
            }
            let foreign = FOREIGN.iter().find(|(name, _)| first.starts_with(name));
            if foreign.is_some_and(|(_, allowed)| !lists(allowed, module)) {
                found.push(format!("{module} must not use the crate {first}: {line}"));
            }
        }
    }
    if source.lines().count() > MAX_LINES {
        found.push(format!("more than {MAX_LINES} lines"));
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn modules_use_only_those_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in files(&src) {
        let path = file.strip_prefix(&src).unwrap().with_extension("");
        let names: Vec<&str> = path.iter().map(|name| name.to_str().unwrap()).collect();
        assert!(!names.iter().any(|name| lists(EMPTY_NAMES, name)), "{path:?}");
        let is_top = lists("lib main", names[0]);
        assert!(is_top || lists(ORDER, names[0]), "{path:?} has no place in the order");
        if !names.contains(&"tests") {
            found.extend(violations(if is_top { "cli" } else { names[0] }, &fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// In the package of vector code: intrinsics of one processor architecture lie in one folder.
fn is_for_one_architecture(source: &str) -> bool {
    ["arch::x86_64", "arch::aarch64", "_mm256_", "_mm512_"].iter().any(|word| source.contains(word))
}

#[test]
fn only_one_folder_is_for_one_architecture() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [own, vector] = ["src", "kernels/src"].map(|folder| package.join(folder));
    for file in files(&own).into_iter().chain(files(&vector)) {
        let source = fs::read_to_string(&file).unwrap();
        let allowed = file.starts_with(vector.join("x86"));
        assert!(allowed || !is_for_one_architecture(&source), "{file:?}");
        assert!(source.lines().count() <= MAX_LINES, "{file:?}");
    }
    assert!(is_for_one_architecture("use std::arch::x86_64::*;"));
}

#[test]
fn planted_violations_are_found() {
    for (module, source) in [
        ("graph", "use crate::recipe::Recipe;"),
        ("graph", "fn f() -> crate::cli::Failure {}"),
        ("graph", "use crate::{tensor::DType, exec};"),
        ("train", "use candle_core::Tensor;"),
        ("recipe", "use tokio::sync::Semaphore;"),
        ("jobs", "fn f(s: tonic::Status) {}"),
        ("graph", "use prost::Message;"),
        ("cli", &"\n".repeat(MAX_LINES + 1)),
    ] {
        assert!(!violations(module, source).is_empty(), "{module}: {source}");
    }
    assert!(violations("cli", "use crate::api::v1;\nuse clap::Parser; // candle_core::Tensor").is_empty());
    assert!(violations("exec", "use crate::tensor::DType;\nuse candle_core::Tensor;").is_empty());
}
