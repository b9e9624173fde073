//! Arbitrary statements, and one of each by hand, for tests.

use crate::product::{
    Budget, BudgetPeriod, Column, DATE_TRUNC_UNITS, DatasetColumn, Dimension, Linkable, Measure,
    NanoRho, Product, RollUp, RollUpKind,
};
use crate::{AccessToken, Grant, GrantedProduct, Linkage};
use guildhall_model::{
    ColumnClass, ColumnName, CouncilName, DatasetName, Digest, OutputClass, PeerId, Principal,
    ProductRef, Purpose, ReleaseClass, Timestamp,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::str::FromStr;
use std::time::Duration;

/// The grant and the token below count from here, for [`LIFE`].
pub(crate) fn start() -> Timestamp {
    Timestamp::from_micros(1_795_343_400_000_000)
}

pub(crate) const LIFE: Duration = Duration::from_secs(300);

pub(crate) fn n<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn a_grant() -> Grant {
    Grant {
        id: n("g-7Q2M"),
        council: n("northmoor"),
        principal: a_principal(),
        purpose: n("transport_planning"),
        node: n("spiffe://northmoor/parking/node/parking-1"),
        fragment: Digest::of(b"a fragment"),
        products: vec![GrantedProduct {
            department: n("parking"),
            product: n("sessions"),
            version: 3,
            columns: [n("started"), n("ward")].into(),
        }],
        output: OutputClass::ReleasedCells,
        recipient: n("spiffe://northmoor/council/gateway/gw-1"),
        charge: 0,
        not_before: start(),
        expires: start().after(LIFE),
        query: n("q-1"),
        gateway: n("spiffe://northmoor/council/gateway/gw-1"),
        linkage: None,
    }
}

pub(crate) fn a_principal() -> Principal {
    Principal {
        council: n("northmoor"),
        name: n("ana"),
    }
}

pub(crate) fn a_token() -> AccessToken {
    AccessToken {
        id: "t-1".into(),
        principal: a_principal(),
        roles: vec!["analyst".into()],
        purposes: vec![n("transport_planning")],
        gateway: n("spiffe://northmoor/council/gateway/gw-1"),
        not_before: start(),
        expires: start().after(LIFE),
    }
}

pub(crate) fn a_product() -> Product {
    let read = |column: &str| DatasetColumn {
        dataset: n("sessions"),
        column: n(column),
    };
    let column = |name: &str, class, reads: &[&str]| Column {
        name: n(name),
        class,
        doc: String::new(),
        reads: reads.iter().map(|r| read(r)).collect(),
    };
    Product {
        council: n("northmoor"),
        department: n("parking"),
        name: n("sessions"),
        version: 3,
        doc: "Stays in the council's car parks".into(),
        class: ReleaseClass::Aggregate,
        purposes: [n("transport_planning")].into(),
        conforms_to: Some(n("sessions")),
        unit: Some(n("vehicle")),
        minimum_group: 10,
        max_rows_per_unit: 100,
        joint_with: std::collections::BTreeSet::new(),
        linkable: None,
        columns: vec![
            column("vehicle", ColumnClass::Identifier, &["plate"]),
            column("ward", ColumnClass::Quasi, &["car_park", "ward"]),
            column("started", ColumnClass::Quasi, &["started"]),
            column("paid_pence", ColumnClass::Measure, &["paid_pence"]),
        ],
        dimensions: vec![Dimension {
            column: n("started"),
            roll_ups: vec![
                RollUp {
                    name: "month".into(),
                    kind: RollUpKind::DateTrunc("month".into()),
                },
                RollUp {
                    name: "opening".into(),
                    kind: RollUpKind::Group(vec!["1".into()]),
                },
            ],
            values: vec![],
            within: None,
        }],
        measures: vec![Measure {
            column: n("paid_pence"),
            lower: 0.0,
            upper: 5000.0,
        }],
        arrow_schema: vec![1, 2, 3],
        definition: Digest::of(b"a product file"),
        row_count: None,
        always_reads: [read("plate")].into(),
        node: n("spiffe://northmoor/parking/node/parking-1"),
        budgets: vec![Budget {
            purpose: n("transport_planning"),
            datasets: [n("sessions")].into(),
            rho: NanoRho::new(50_000_000),
            period: BudgetPeriod::Quarter,
            per_query: NanoRho::new(1_000_000),
            cells_per_unit: 4,
        }],
    }
}

fn sql_name<T: FromStr<Err: Debug> + Debug>() -> impl Strategy<Value = T> {
    "[a-z][a-z0-9_]{0,8}".prop_map(|s| n(&s))
}

fn column_name() -> impl Strategy<Value = ColumnName> {
    "[ -~é]{1,10}".prop_map(|s| n(&s))
}

fn plain_id<T: FromStr<Err: Debug> + Debug>() -> impl Strategy<Value = T> {
    "[A-Za-z0-9_.@-]{1,12}".prop_map(|s| n(&s))
}

fn peer() -> impl Strategy<Value = PeerId> {
    "spiffe://[a-z]{1,5}/[a-z]{1,5}/(node|gateway|clean-room)/[a-z0-9-]{1,5}".prop_map(|s| n(&s))
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(|b| Digest::from_bytes(&b).unwrap())
}

fn principal() -> impl Strategy<Value = Principal> {
    (sql_name(), plain_id()).prop_map(|(council, name)| Principal { council, name })
}

fn span() -> impl Strategy<Value = (Timestamp, Timestamp)> {
    (any::<i64>(), any::<i64>())
        .prop_filter("in order", |(a, b)| a != b)
        .prop_map(|(a, b)| {
            (
                Timestamp::from_micros(a.min(b)),
                Timestamp::from_micros(a.max(b)),
            )
        })
}

prop_compose! {
    fn granted_product()(
        department in sql_name(),
        product in sql_name(),
        version in any::<u32>(),
        columns in btree_set(column_name(), 0..4),
    ) -> GrantedProduct {
        GrantedProduct { department, product, version, columns }
    }
}

prop_compose! {
    pub(crate) fn any_grant()(
        id in plain_id(),
        council in sql_name(),
        principal in principal(),
        purpose in sql_name(),
        (node, recipient) in (peer(), peer()),
        fragment in digest(),
        mut products in vec(granted_product(), 0..4),
        output in prop::sample::select(vec![
            OutputClass::OpenRows,
            OutputClass::ReleasedCells,
            OutputClass::PartialCells,
            OutputClass::TokenisedRows,
        ]),
        charge in any::<u64>(),
        (not_before, expires) in span(),
        (query, gateway) in (plain_id(), peer()),
        linkage in linkage(),
    ) -> Grant {
        let mut seen = BTreeSet::new();
        products.retain(|p| seen.insert((p.department.clone(), p.product.clone())));
        Grant {
            id, council, principal, purpose, node, fragment, products, output, recipient, charge,
            not_before, expires, query, gateway,
            linkage: (output == OutputClass::TokenisedRows).then_some(linkage),
        }
    }
}

prop_compose! {
    pub(crate) fn any_token()(
        id in "[a-z0-9-]{1,8}",
        principal in principal(),
        roles in vec("[a-z ]{1,8}", 0..4),
        purposes in vec(sql_name(), 0..4),
        gateway in peer(),
        (not_before, expires) in span(),
    ) -> AccessToken {
        AccessToken { id, principal, roles, purposes, gateway, not_before, expires }
    }
}

fn reads() -> impl Strategy<Value = BTreeSet<DatasetColumn>> {
    let read = (sql_name::<DatasetName>(), column_name())
        .prop_map(|(dataset, column)| DatasetColumn { dataset, column });
    btree_set(read, 0..3)
}

fn roll_up_kind() -> impl Strategy<Value = RollUpKind> {
    prop_oneof![
        prop::sample::select(&DATE_TRUNC_UNITS[..]).prop_map(|u| RollUpKind::DateTrunc(u.into())),
        vec(".{0,5}", 1..4).prop_map(RollUpKind::Group),
    ]
}

fn roll_ups() -> impl Strategy<Value = Vec<RollUp>> {
    vec(roll_up_kind(), 0..3).prop_map(|kinds| {
        let named = |(i, mut kind): (usize, RollUpKind)| {
            // Groups of a dimension share no value.
            if let RollUpKind::Group(values) = &mut kind {
                values
                    .iter_mut()
                    .for_each(|v| v.insert_str(0, &i.to_string()));
            }
            let name = format!("r{i}");
            RollUp { name, kind }
        };
        kinds.into_iter().enumerate().map(named).collect()
    })
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    let class = prop::sample::select(vec![
        ColumnClass::Open,
        ColumnClass::Quasi,
        ColumnClass::Measure,
        ColumnClass::Identifier,
        ColumnClass::Secret,
    ]);
    vec((column_name(), class, ".{0,8}", reads()), 1..5).prop_map(|columns| {
        let mut seen = BTreeSet::new();
        columns
            .into_iter()
            .map(|(name, class, doc, reads)| Column {
                name,
                class,
                doc,
                reads,
            })
            .filter(|c| seen.insert(c.name.clone()))
            .collect()
    })
}

prop_compose! {
    fn budget()(
        rho in 1..=Budget::MOST.get(),
        part in 1..1000u64,
        period in prop::sample::select(&BudgetPeriod::ALL[..]),
        cells_per_unit in 1u32..,
    ) -> Budget {
        Budget {
            purpose: n("any"),
            datasets: BTreeSet::new(),
            rho: NanoRho::new(rho),
            period,
            per_query: NanoRho::new((rho / part).max(1)),
            cells_per_unit,
        }
    }
}

prop_compose! {
    fn product_ref()((council, department, product) in (sql_name(), sql_name(), sql_name())) -> ProductRef {
        ProductRef { council, department, product }
    }
}

prop_compose! {
    fn linkage()(
        id in plain_id(),
        question in digest(),
        products in btree_set(product_ref(), 0..3),
    ) -> Linkage {
        Linkage { id, question, products }
    }
}

prop_compose! {
    fn linkable()(
        identity in sql_name(),
        dpia in plain_id(),
        with in btree_set(product_ref(), 1..3),
    ) -> Linkable {
        Linkable { identity, dpia, with }
    }
}

/// The same products, of one council.
fn of_council(products: &BTreeSet<ProductRef>, council: &CouncilName) -> BTreeSet<ProductRef> {
    let of = |p: &ProductRef| ProductRef {
        council: council.clone(),
        ..p.clone()
    };
    products.iter().map(of).collect()
}

prop_compose! {
    /// A product that passes its own check: dimensions and measures are over its columns.
    pub(crate) fn any_product()(
        (council, department, name) in (sql_name(), sql_name(), sql_name()),
        (version, minimum_group, max_rows_per_unit) in (1u32.., 1u32.., 1u32..),
        doc in ".{0,12}",
        class in prop::sample::select(vec![
            ReleaseClass::Open,
            ReleaseClass::Restricted,
            ReleaseClass::Aggregate,
            ReleaseClass::Warranted,
        ]),
        purposes in btree_set(sql_name(), 0..3),
        conforms_to in prop::option::of(sql_name()),
        columns in columns(),
        (roll_ups, values) in (roll_ups(), vec(".{0,5}", 0..3)),
        (a, b) in (-1e9f64..1e9, -1e9f64..1e9),
        (arrow_schema, definition) in (vec(any::<u8>(), 0..20), digest()),
        (rows, always_reads) in (any::<u64>(), reads()),
        node in "[a-z]{1,5}",
        joint_with in prop::option::of(product_ref()),
        linkable in prop::option::of(linkable()),
        budget in prop::option::of(budget()),
    ) -> Product {
        let may_have = class == ReleaseClass::Aggregate && !columns[0].reads.is_empty();
        let budget = budget.filter(|_| may_have);
        let datasets: BTreeSet<_> = columns[0].reads.iter().map(|r| r.dataset.clone()).collect();
        let of = |b: &Budget, purpose: &Purpose| Budget {
            purpose: purpose.clone(),
            datasets: datasets.clone(),
            ..b.clone()
        };
        let budgets = budget.iter().flat_map(|b| purposes.iter().map(|p| of(b, p)).collect::<Vec<_>>()).collect();
        let first = columns[0].name.clone();
        let last = columns[columns.len() - 1].name.clone();
        Product {
            node: n(&format!("spiffe://{council}/{department}/node/{node}")),
            unit: (class == ReleaseClass::Aggregate).then(|| first.clone()),
            row_count: (class == ReleaseClass::Open).then_some(rows),
            dimensions: vec![Dimension { column: last.clone(), roll_ups, values, within: None }],
            measures: vec![Measure { column: last, lower: a.min(b), upper: a.max(b) }],
            linkable: linkable.filter(|l| l.with.iter().all(|p| p.department != department))
                .filter(|_| class == ReleaseClass::Aggregate)
                .map(|l| Linkable { with: of_council(&l.with, &council), ..l }),
            joint_with: joint_with.filter(|_| class == ReleaseClass::Aggregate && conforms_to.is_some()).into_iter().collect(),
            council, department, name, version, doc, class, purposes, conforms_to, minimum_group, max_rows_per_unit,
            columns, arrow_schema, definition, always_reads, budgets,
        }
    }
}
