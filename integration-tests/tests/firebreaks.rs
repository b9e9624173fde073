//! The edges between crates that must not exist, directly or through another crate.
//!
//! A firebreak is a crate, never a feature. What a crate reaches as a dev-dependency or at build
//! time does not count: it is not in the program that runs.

#![expect(
    clippy::expect_used,
    reason = "tests; clippy's own allowance does not reach helper functions"
)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The dependency graph of what runs, by package name.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    fn read() -> Self {
        let done = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--offline", "--locked"])
            .args([
                "--manifest-path",
                concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"),
            ])
            .output()
            .expect("cargo runs");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        let metadata: Value = serde_json::from_slice(&done.stdout).expect("cargo prints JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let list = |value: &Value| value.as_array().expect("a list").clone();
        let name: BTreeMap<String, String> = list(&metadata["packages"])
            .iter()
            .map(|p| (text(&p["id"]), text(&p["name"])))
            .collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            // A dependency of kind null is one of what runs; others are "dev" and "build".
            let runs = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null());
            let normal = list(&node["deps"]).into_iter().filter(runs);
            let normal = normal.map(|d| name[&text(&d["pkg"])].clone());
            edges
                .entry(name[&text(&node["id"])].clone())
                .or_default()
                .extend(normal);
        }
        Self(edges)
    }

    /// A way from `from` to `to`, if there is one.
    fn path(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![vec![from.to_owned()]];
        while let Some(path) = todo.pop() {
            let last = path.last().expect("a path has an end");
            if last == to {
                return Some(path);
            }
            if seen.insert(last.clone()) {
                for next in self.0.get(last).into_iter().flatten() {
                    todo.push(path.iter().cloned().chain([next.clone()]).collect());
                }
            }
        }
        None
    }

    fn assert_absent(&self, from: &str, to: &[&str]) {
        assert!(self.0.contains_key(from), "there is no crate `{from}`");
        for to in to {
            let path = self.path(from, to);
            assert!(
                path.is_none(),
                "`{from}` reaches `{to}`: {}",
                path.unwrap_or_default().join(" -> ")
            );
        }
    }
}

#[test]
fn the_gateway_could_not_open_a_column_or_relax_a_rule() {
    Graph::read().assert_absent(
        "guildhall-gateway",
        &[
            "guildhall-keys",
            "guildhall-keyring",
            "guildhall-store",
            "guildhall-policy",
            "guildhall-disclosure",
        ],
    );
}

#[test]
fn the_authority_never_holds_rows() {
    Graph::read().assert_absent(
        "guildhall-authority",
        &["guildhall-store", "guildhall-plan", "datafusion", "parquet"],
    );
}

#[test]
fn a_node_cannot_unwrap_a_key() {
    Graph::read().assert_absent("guildhall-node", &["guildhall-keyring"]);
}

#[test]
fn a_worker_unwraps_no_key_and_releases_nothing() {
    Graph::read().assert_absent(
        "guildhall-workers",
        &[
            "guildhall-keyring",
            "guildhall-policy",
            "guildhall-disclosure",
            "guildhall-authority",
            "rusqlite",
        ],
    );
}

#[test]
fn a_clean_room_opens_no_column_and_keeps_nothing() {
    Graph::read().assert_absent(
        "guildhall-clean-room",
        &[
            "guildhall-keys",
            "guildhall-keyring",
            "guildhall-store",
            "guildhall-policy",
            "rusqlite",
        ],
    );
}

#[test]
fn the_rules_are_values_in_values_out() {
    let graph = Graph::read();
    for rule in ["policy", "grant", "disclosure", "audit"] {
        graph.assert_absent(
            &format!("guildhall-{rule}"),
            &[
                "datafusion",
                "object_store",
                "guildhall-store",
                "guildhall-client",
            ],
        );
    }
    // Grants are written in messages whose generated code shares a crate with the services.
    for rule in ["policy", "disclosure", "audit"] {
        graph.assert_absent(&format!("guildhall-{rule}"), &["tokio"]);
    }
}

#[test]
fn what_crosses_a_boundary_knows_no_keys() {
    let graph = Graph::read();
    for shared in [
        "plan",
        "client",
        "identity",
        "telemetry",
        "grant",
        "proto",
        "model",
    ] {
        graph.assert_absent(
            &format!("guildhall-{shared}"),
            &[
                "guildhall-keys",
                "guildhall-keyring",
                "guildhall-store",
                "guildhall-policy",
                "guildhall-disclosure",
            ],
        );
    }
}

#[test]
fn nothing_but_tests_reaches_the_testkit() {
    let graph = Graph::read();
    for name in graph.0.keys().filter(|n| n.starts_with("guildhall-")) {
        if !matches!(
            name.as_str(),
            "guildhall-testkit" | "guildhall-integration-tests" | "guildhall-benches"
        ) {
            graph.assert_absent(name, &["guildhall-testkit"]);
        }
    }
}

#[test]
fn there_is_one_crypto_provider_and_one_engine() {
    let graph = Graph::read();
    graph.assert_absent(
        "guildhall-cli",
        &["aws-lc-rs", "openssl-sys", "native-tls", "openssl"],
    );
}

/// The graph walk itself finds an edge that goes through another crate.
#[test]
fn an_edge_through_another_crate_is_found() {
    let graph = Graph::read();
    assert!(graph.path("guildhall-node", "guildhall-keys").is_some());
    assert!(
        graph
            .path("guildhall-cli", "guildhall-keyring")
            .is_some_and(|p| p.len() > 2)
    );
}
