//! Every operator of the standard has an answer, and the page that lists them is current.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;

use super::{REFUSED, SUPPORTED, find};

/// Names of the standard domain in operator set 24, with the set that each came with; written by
/// `tests/reference/standard.py`.
const STANDARD: &str = include_str!("../../../../tests/reference/standard.txt");

fn standard() -> impl Iterator<Item = (&'static str, i64)> {
    STANDARD.lines().map(|line| {
        let (name, since) = line.split_once(' ').expect("a name and a number");
        (name, since.parse().expect("a number"))
    })
}

#[test]
fn every_operator_of_the_standard_is_supported_or_refused_with_a_reason() {
    let names: Vec<&str> = SUPPORTED.iter().flat_map(|row| row.names).copied().collect();
    let refused: Vec<&str> = REFUSED.iter().flat_map(|(_, names)| *names).copied().collect();
    let ours: HashSet<&str> = names.iter().chain(&refused).copied().collect();
    assert_eq!(ours.len(), names.len() + refused.len(), "an operator stands in the table twice");
    let theirs: HashSet<&str> = standard().map(|(name, _)| name).collect();
    assert_eq!(theirs.difference(&ours).collect::<Vec<_>>(), Vec::<&&str>::new(), "without an answer");
    assert_eq!(ours.difference(&theirs).collect::<Vec<_>>(), Vec::<&&str>::new(), "not of the standard");
    assert!(standard().count() > 190, "the list is whole");
}

#[test]
fn operator_sets_are_those_of_the_standard() {
    for (name, since) in standard() {
        if let Ok(row) = find("", name) {
            assert!(row.since <= since, "{name} exists since {since}, supported from {}", row.since);
        }
    }
    for row in SUPPORTED {
        let first = standard().filter(|(name, _)| row.names.contains(name)).map(|(_, since)| since).min();
        assert_eq!(first, Some(row.since), "{:?}", row.names);
    }
}

#[test]
fn the_page_of_operators_is_current() {
    let mut page = String::from(
        "# Operators\n\nThe operators of ONNX's standard domain (operator set 24) and what becomes of each. \
         This page is written by a test; after a change, run it with `UPDATE_DOCS=1`.\n\n\
         | operator | since | answer |\n|---|--:|---|\n",
    );
    for (name, since) in standard() {
        let answer = match find("", name) {
            Ok(row) => row.kind.text().to_owned(),
            Err(reason) => format!("refused: {reason}"),
        };
        writeln!(page, "| {name} | {since} | {answer} |").expect("a string");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, &page).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "{} is not current: run this test with UPDATE_DOCS=1", path.display());
}
