//! The list of hostile inputs and the tests that it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all functions below a folder of sources.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names =
                text.split("fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap_or_default().to_string());
            found.extend(names);
        }
    }
}

#[test]
fn every_hostile_input_of_the_list_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    for folder in ["src", "tests"] {
        functions(&root.join(folder), &mut known);
    }
    let list = fs::read_to_string(root.join("docs/hostile-inputs.md")).unwrap();
    let rows: Vec<&str> = list.lines().filter(|line| line.starts_with("| ") && line.ends_with('|')).collect();
    let mut seen = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let Ok(number) = cells[0].parse::<u32>() else { continue };
        seen.insert(number);
        let tests = cells[3].split('`').skip(1).step_by(2);
        let (script, tests): (Vec<&str>, Vec<&str>) =
            tests.partition(|test| test.ends_with(".py") || test.ends_with("deny"));
        assert!(!tests.is_empty() || !script.is_empty() || cells[3].starts_with("none:"), "{number} names no test");
        for test in tests {
            assert!(known.contains(test), "{number} names `{test}`, which is no test");
        }
    }
    let expected: BTreeSet<u32> = (54..=115).collect();
    let missing: Vec<_> = expected.difference(&seen).collect();
    assert!(missing.is_empty(), "not in the list: {missing:?}");
}
