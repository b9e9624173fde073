//! A product of a leisure department as it is registered: there is no file of it, and no data.

use guildhall_grant::product::{Column, Dimension, Measure, Product};
use guildhall_model::{ColumnClass, Digest, ReleaseClass};
use std::collections::BTreeSet;

/// Swims, of members, with the measure `pence` and no dimension.
pub(crate) fn swims(columns: &[(&str, ColumnClass)]) -> Product {
    let column = |(name, class): &(&str, ColumnClass)| Column {
        name: name.parse().unwrap(),
        class: *class,
        doc: String::new(),
        reads: BTreeSet::new(),
    };
    Product {
        council: "northmoor".parse().unwrap(),
        department: "leisure".parse().unwrap(),
        name: "swims".parse().unwrap(),
        version: 1,
        doc: String::new(),
        class: ReleaseClass::Aggregate,
        purposes: BTreeSet::new(),
        conforms_to: None,
        unit: Some("member".parse().unwrap()),
        minimum_group: 10,
        max_rows_per_unit: 5,
        columns: columns.iter().map(column).collect(),
        dimensions: vec![],
        measures: vec![Measure {
            column: "pence".parse().unwrap(),
            lower: 0.0,
            upper: 5000.0,
        }],
        arrow_schema: vec![],
        definition: Digest::of(b"swims"),
        row_count: None,
        always_reads: BTreeSet::new(),
        node: "spiffe://northmoor/leisure/node/leisure-1".parse().unwrap(),
        budgets: vec![],
        joint_with: std::collections::BTreeSet::new(),
        linkable: None,
    }
}

/// A dimension over a column, of which nothing is declared.
pub(crate) fn dimension(column: &str) -> Dimension {
    Dimension {
        column: column.parse().unwrap(),
        roll_ups: vec![],
        values: vec![],
        within: None,
    }
}
