//! The edges between crates that must not exist, directly or through another crate.
//!
//! A firebreak is a crate, never a feature. What a crate reaches as a dev-dependency or at build
//! time does not count: it is not in the program that runs.

use cargo_metadata::{DependencyKind, MetadataCommand, PackageId};
use std::collections::{BTreeMap, BTreeSet};

/// The dependency graph of what runs, by package name.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    fn read() -> Self {
        let metadata = MetadataCommand::new()
            .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .other_options(["--offline".to_owned(), "--locked".to_owned()])
            .exec()
            .expect("cargo metadata runs");
        let name: BTreeMap<&PackageId, String> =
            metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in &metadata.resolve.as_ref().expect("a resolved graph").nodes {
            let normal = node
                .deps
                .iter()
                .filter(|d| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal))
                .map(|d| name[&d.pkg].clone());
            edges.entry(name[&node.id].clone()).or_default().extend(normal);
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
            assert!(path.is_none(), "`{from}` reaches `{to}`: {}", path.unwrap().join(" -> "));
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
    Graph::read()
        .assert_absent("guildhall-authority", &["guildhall-store", "guildhall-plan", "datafusion", "parquet"]);
}

#[test]
fn a_node_cannot_unwrap_a_key() {
    Graph::read().assert_absent("guildhall-node", &["guildhall-keyring"]);
}

#[test]
fn the_rules_are_values_in_values_out() {
    let graph = Graph::read();
    for rule in ["policy", "grant", "disclosure", "audit"] {
        graph.assert_absent(
            &format!("guildhall-{rule}"),
            &["datafusion", "object_store", "guildhall-store", "guildhall-client"],
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
    for shared in ["plan", "client", "identity", "telemetry", "grant", "proto", "model"] {
        graph.assert_absent(
            &format!("guildhall-{shared}"),
            &["guildhall-keys", "guildhall-keyring", "guildhall-store", "guildhall-policy", "guildhall-disclosure"],
        );
    }
}

#[test]
fn nothing_but_tests_reaches_the_testkit() {
    let graph = Graph::read();
    for name in graph.0.keys().filter(|n| n.starts_with("guildhall-")) {
        if !matches!(name.as_str(), "guildhall-testkit" | "guildhall-integration-tests" | "guildhall-benches") {
            graph.assert_absent(name, &["guildhall-testkit"]);
        }
    }
}

#[test]
fn there_is_one_crypto_provider_and_one_engine() {
    let graph = Graph::read();
    graph.assert_absent("guildhall-cli", &["aws-lc-rs", "openssl-sys", "native-tls", "openssl"]);
}

/// The graph walk itself finds an edge that goes through another crate.
#[test]
fn an_edge_through_another_crate_is_found() {
    let graph = Graph::read();
    assert!(graph.path("guildhall-node", "guildhall-keys").is_some());
    assert!(graph.path("guildhall-cli", "guildhall-keyring").is_some_and(|p| p.len() > 2));
}
