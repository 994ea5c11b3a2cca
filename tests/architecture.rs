//! Who may use whom: the rules of `docs/architecture.md`, checked on the source text.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the bottom to the top: each may use itself and those before it.
const ORDER: &str =
    "error digest seed tensor graph format report data kernels exec passes train recipe store jobs api cli";
/// Crates that stay in few modules.
const FOREIGN: &[(&str, &str)] = &[
    ("candle_", "kernels exec"),
    ("tonic", "api cli"),
    ("prost", "api"),
    ("clap", "cli"),
    ("sqlx", "store jobs"),
    ("object_store", "store"),
];
/// Names that say nothing.
const EMPTY_NAMES: &str = "utils common helpers types manager";
const MAX_LINES: usize = 800;

/// What is wrong with one file of module `module`.
fn violations(module: &str, source: &str) -> Vec<String> {
    let rank = |name: &str| ORDER.split(' ').position(|m| m == name);
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let mut found = Vec::new();
    for line in &code {
        for used in line.split("crate::").skip(1).flat_map(names) {
            if rank(used) > rank(module) {
                found.push(format!("{module} uses {used}: {}", line.trim()));
            }
        }
        for (foreign, allowed) in FOREIGN {
            let starts = |word: &str| word.starts_with(foreign);
            let path =
                line.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).find(|w| w.contains("::") && starts(w));
            if path.is_some() && !allowed.split(' ').any(|m| m == module) {
                found.push(format!("{module} uses the crate {foreign}: {}", line.trim()));
            }
        }
    }
    if source.lines().count() > MAX_LINES {
        found.push(format!("{module} has a file over {MAX_LINES} lines"));
    }
    found
}

/// The modules that follow `crate::`, one or several in braces.
fn names(rest: &str) -> Vec<&str> {
    let list = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap_or(""));
    let first =
        |path: &'_ str| path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::len).unwrap_or(0);
    list.map_or_else(|| vec![&rest[..first(rest)]], |l| l.split(',').map(|p| &p.trim()[..first(p)]).collect())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn modules_use_only_those_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files(&src) {
        let path = file.strip_prefix(&src).unwrap().with_extension("");
        let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
        assert!(!parts.iter().any(|part| EMPTY_NAMES.split(' ').any(|name| name == *part)), "{path:?}");
        let top = matches!(parts[0], "lib" | "main");
        assert!(top || ORDER.split(' ').any(|m| m == parts[0]), "{path:?} has no place in the order");
        let found = violations(if top { "cli" } else { parts[0] }, &fs::read_to_string(&file).unwrap());
        assert!(found.is_empty(), "{path:?}: {found:#?}");
    }
}

#[test]
fn planted_violations_are_found() {
    let found = |module, source| !violations(module, source).is_empty();
    assert!(found("graph", "use crate::recipe::Recipe;"));
    assert!(found("graph", "fn f() -> crate::cli::Failure {}"));
    assert!(found("graph", "use crate::{tensor::DType, exec};"));
    assert!(found("train", "use candle_core::Tensor;"));
    assert!(found("jobs", "fn f(s: tonic::Status) {}"));
    assert!(found("cli", &"\n".repeat(MAX_LINES + 1)));
    assert!(!found("cli", "use crate::api::v1;\nuse clap::Parser; // not candle_core::Tensor"));
    assert!(!found("exec", "use crate::tensor::DType;\nuse candle_core::Tensor;"));
}
