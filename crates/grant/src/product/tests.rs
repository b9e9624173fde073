use super::*;
use crate::Statement;
use crate::arbitrary::{a_product, any_product, n};
use proptest::prelude::*;

fn refused(change: impl FnOnce(&mut Product)) -> WireError {
    let mut product = a_product();
    change(&mut product);
    let error = product.check().unwrap_err();
    assert_eq!(Product::from_wire(product.to_wire()), Err(error.clone()));
    error
}

#[test]
fn a_product_that_fits_is_accepted() {
    a_product().check().unwrap();
}

#[test]
fn an_aggregate_product_names_its_unit_and_minimum() {
    assert_eq!(
        refused(|p| p.unit = None),
        WireError::Missing { field: "unit" }
    );
    let error = refused(|p| p.minimum_group = 0);
    assert_eq!(error.to_string(), "`minimum_group` is 0");
    let error = refused(|p| p.max_rows_per_unit = 0);
    assert_eq!(error.to_string(), "`max_rows_per_unit` is 0");
}

#[test]
fn cells_are_released_together_with_those_of_other_departments_products_of_a_template() {
    let joint =
        |p: &mut Product| p.joint_with = ["southmere.parking.sessions".parse().unwrap()].into();
    let mut product = a_product();
    joint(&mut product);
    product.check().unwrap();
    let own = refused(|p| p.joint_with = ["northmoor.parking.permits".parse().unwrap()].into());
    assert!(own.to_string().contains("would count twice"), "{own}");
    let alone = refused(|p| {
        joint(p);
        p.conforms_to = None;
    });
    assert!(alone.to_string().contains("`joint_with`"), "{alone}");
}

fn linkable(identity: &str, with: &str) -> Option<Linkable> {
    Some(Linkable {
        identity: identity.parse().unwrap(),
        dpia: "DPIA-1".parse().unwrap(),
        with: [with.parse().unwrap()].into(),
    })
}

#[test]
fn rows_meet_those_of_other_departments_of_the_council_that_say_the_same() {
    let (mut one, mut other) = (a_product(), a_product());
    other.department = "permits".parse().unwrap();
    one.linkable = linkable("vehicle", "northmoor.permits.sessions");
    one.check().unwrap();
    assert!(!one.links_with(&other) && !other.links_with(&one));
    other.linkable = linkable("vehicle", "northmoor.parking.sessions");
    assert!(one.links_with(&other) && other.links_with(&one));
    other.linkable = linkable("keeper", "northmoor.parking.sessions");
    assert!(!one.links_with(&other) && !other.links_with(&one));

    for (with, why) in [
        ("northmoor.parking.permits", "of the department's own"),
        ("southmere.parking.sessions", "of another council"),
    ] {
        let error = refused(|p| p.linkable = linkable("vehicle", with));
        assert!(error.to_string().contains(why), "{error}");
    }
    let nobody = refused(|p| {
        p.linkable = linkable("vehicle", "northmoor.permits.sessions");
        p.linkable.as_mut().unwrap().with.clear();
    });
    assert!(nobody.to_string().contains("names no product"), "{nobody}");
    let rows = refused(|p| {
        p.linkable = linkable("vehicle", "northmoor.permits.sessions");
        p.class = ReleaseClass::Restricted;
    });
    assert!(rows.to_string().contains("`linkable`"), "{rows}");
}

#[test]
fn groups_share_no_value_and_dimensions_lie_in_no_circle() {
    let group = |name: &str, values: &[&str]| RollUp {
        name: name.to_owned(),
        kind: RollUpKind::Group(values.iter().map(|v| (*v).to_owned()).collect()),
    };
    let error = refused(|p| {
        p.dimensions[0].roll_ups = vec![group("a", &["1", "2"]), group("b", &["2", "3"])];
    });
    let text = error.to_string();
    assert!(text.contains("another group"), "{text}");
    let error = refused(|p| p.dimensions[0].within = Some(n("plate")));
    assert!(matches!(
        error,
        WireError::NoSuchColumn {
            field: "dimensions.within",
            ..
        }
    ));
    let error = refused(|p| p.dimensions[0].within = Some(p.dimensions[0].column.clone()));
    assert!(error.to_string().contains("circle"), "{error}");
}

#[test]
fn only_an_open_product_says_how_many_rows_it_has() {
    let error = refused(|p| p.row_count = Some(9));
    assert!(matches!(
        error,
        WireError::Rule {
            field: "row_count",
            ..
        }
    ));
    let open = Product {
        class: ReleaseClass::Open,
        row_count: Some(9),
        budgets: Vec::new(),
        ..a_product()
    };
    open.check().unwrap();
}

#[test]
fn unit_dimensions_and_measures_are_columns() {
    let error = refused(|p| p.unit = Some(n("plate")));
    assert_eq!(
        error,
        WireError::NoSuchColumn {
            field: "unit",
            name: "plate".into()
        }
    );
    let error = refused(|p| p.dimensions[0].column = n("plate"));
    assert_eq!(
        error,
        WireError::NoSuchColumn {
            field: "dimensions",
            name: "plate".into()
        }
    );
    let error = refused(|p| p.measures[0].column = n("plate"));
    assert_eq!(
        error,
        WireError::NoSuchColumn {
            field: "measures",
            name: "plate".into()
        }
    );
}

#[test]
fn nothing_is_declared_twice() {
    let error = refused(|p| p.columns.push(p.columns[0].clone()));
    assert_eq!(
        error,
        WireError::Twice {
            field: "columns",
            name: "vehicle".into()
        }
    );
    let error = refused(|p| p.dimensions.push(p.dimensions[0].clone()));
    assert_eq!(
        error,
        WireError::Twice {
            field: "dimensions",
            name: "started".into()
        }
    );
    let error = refused(|p| p.measures.push(p.measures[0].clone()));
    assert_eq!(
        error,
        WireError::Twice {
            field: "measures",
            name: "paid_pence".into()
        }
    );
    let error = refused(|p| {
        let again = p.dimensions[0].roll_ups[0].clone();
        p.dimensions[0].roll_ups.push(again);
    });
    assert_eq!(
        error,
        WireError::Twice {
            field: "dimensions.roll_ups",
            name: "month".into()
        }
    );
}

#[test]
fn roll_ups_are_named_and_of_a_known_unit_or_of_values() {
    let roll_up = |name: &str, kind| RollUp {
        name: name.into(),
        kind,
    };
    for bad in [
        roll_up("", RollUpKind::DateTrunc("day".into())),
        roll_up("a", RollUpKind::DateTrunc("minute".into())),
        roll_up("a", RollUpKind::DateTrunc("Day".into())),
        roll_up("a", RollUpKind::Group(vec![])),
    ] {
        refused(|p| p.dimensions[0].roll_ups = vec![bad]);
    }
}

#[test]
fn bounds_are_finite_and_in_order() {
    for (lower, upper) in [
        (1.0, 0.0),
        (f64::NAN, 1.0),
        (0.0, f64::NAN),
        (0.0, f64::INFINITY),
        (f64::NEG_INFINITY, 0.0),
    ] {
        refused(|p| {
            p.measures[0] = Measure {
                column: n("paid_pence"),
                lower,
                upper,
            }
        });
    }
}

#[test]
fn a_budget_is_of_an_aggregate_product_and_of_datasets_that_its_unit_is_read_from() {
    let error = refused(|p| p.class = ReleaseClass::Restricted);
    assert_eq!(
        error.to_string(),
        "`budgets` is given, though the class is not `aggregate`"
    );
    let error = refused(|p| p.budgets[0].datasets.clear());
    assert_eq!(error.to_string(), "`budgets.datasets` is missing");
    for change in [(|p| p.columns[0].reads.clear()) as fn(&mut Product), |p| {
        p.budgets[0].datasets.extend([n("permits")])
    }] {
        assert_eq!(
            refused(change).to_string(),
            "`budgets` is of a dataset that the unit is not read from"
        );
    }
}

#[test]
fn a_budget_is_within_bounds_and_for_a_purpose_of_the_product() {
    type Change = fn(&mut Budget);
    let cases: [(Change, &str); 7] = [
        (|b| b.rho = NanoRho::new(0), "budgets.nano_rho"),
        (
            |b| b.rho = NanoRho::new(Budget::MOST.get() + 1),
            "budgets.nano_rho",
        ),
        (
            |b| b.per_query = NanoRho::new(0),
            "budgets.per_query_nano_rho",
        ),
        (
            |b| b.per_query = NanoRho::new(b.rho.get() + 1),
            "budgets.per_query_nano_rho",
        ),
        (|b| b.rho = NanoRho::new(1), "budgets.per_query_nano_rho"),
        (|b| b.cells_per_unit = 0, "budgets.cells_per_unit"),
        (|b| b.purpose = n("gossip"), "budgets"),
    ];
    for (change, named) in cases {
        let error = refused(|p| change(&mut p.budgets[0]));
        assert!(
            matches!(error, WireError::Rule { field, .. } if field == named),
            "{error}"
        );
    }
    let error = refused(|p| p.budgets.push(p.budgets[0].clone()));
    assert_eq!(
        error.to_string(),
        "`budgets` names `transport_planning` twice"
    );
    let all_at_once = |p: &mut Product| p.budgets[0].per_query = p.budgets[0].rho;
    let mut product = a_product();
    all_at_once(&mut product);
    product.check().unwrap();
}

#[test]
fn a_period_of_a_budget_that_is_not_known_is_refused() {
    for period in [0, 4, -1] {
        let mut wire = a_product().to_wire();
        wire.budgets[0].period = period;
        assert_eq!(
            Product::from_wire(wire),
            Err(WireError::Unknown {
                field: "budgets.period",
                value: period
            })
        );
    }
}

#[test]
fn a_budget_is_found_by_its_purpose() {
    let product = a_product();
    let found = product.budget(&n("transport_planning")).unwrap();
    assert_eq!(found.rho.to_string(), "0.05");
    assert_eq!(product.budget(&n("gossip")), None);
}

#[test]
fn a_product_is_served_by_a_node_of_its_department() {
    for node in [
        "spiffe://southmoor/parking/node/a",
        "spiffe://northmoor/highways/node/a",
        "spiffe://northmoor/parking/gateway/a",
    ] {
        let error = refused(|p| p.node = n(node));
        assert!(
            matches!(error, WireError::Rule { field: "node", .. }),
            "{node}"
        );
    }
}

#[test]
fn a_product_has_a_version_and_columns() {
    refused(|p| p.version = 0);
    refused(|p| {
        p.columns.clear();
        p.dimensions.clear();
        p.measures.clear();
        p.unit = None;
        p.class = ReleaseClass::Open;
    });
}

#[test]
fn a_question_reads_its_columns_and_what_every_question_reads() {
    let reads = |columns: &[&str]| {
        let columns: Vec<ColumnName> = columns.iter().map(|c| n(c)).collect();
        let reads = a_product().reads_of(&columns);
        reads
            .into_iter()
            .map(|r| r.column.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(reads(&[]), ["plate"]);
    assert_eq!(reads(&["ward"]), ["car_park", "plate", "ward"]);
    assert_eq!(reads(&["no such column"]), ["plate"]);
}

#[test]
fn parts_are_found_by_their_column() {
    let product = a_product();
    assert_eq!(product.column("ward").unwrap().class, ColumnClass::Quasi);
    assert_eq!(product.column("Ward"), None);
    assert_eq!(product.dimension("started").unwrap().roll_ups.len(), 2);
    assert_eq!(product.dimension("ward"), None);
    assert_eq!(product.measure("paid_pence").unwrap().upper, 5000.0);
    assert_eq!(product.measure("ward"), None);
    assert_eq!(
        product.product_ref().to_string(),
        "northmoor.parking.sessions"
    );
}

proptest! {
    #[test]
    fn a_question_over_more_columns_reads_no_less(product in any_product()) {
        let all: Vec<&ColumnName> = product.columns.iter().map(|c| &c.name).collect();
        let (some, rest) = all.split_at(all.len() / 2);
        let fewer = product.reads_of(some.iter().copied());
        let more = product.reads_of(all.iter().copied());
        let others = product.reads_of(rest.iter().copied());
        prop_assert!(fewer.is_subset(&more));
        prop_assert_eq!(fewer.union(&others).cloned().collect::<BTreeSet<_>>(), more);
    }
}

#[test]
fn a_dimension_is_read_with_those_that_it_lies_within() {
    let mut product = a_product();
    let names: Vec<ColumnName> = product
        .columns
        .iter()
        .map(|c| c.name.clone())
        .take(2)
        .collect();
    let dimension = |column: &ColumnName, within: Option<&ColumnName>| Dimension {
        column: column.clone(),
        roll_ups: vec![],
        values: vec![],
        within: within.cloned(),
    };
    product.dimensions = vec![
        dimension(&names[0], Some(&names[1])),
        dimension(&names[1], None),
    ];
    assert_eq!(product.reads_of([&names[0]]), product.reads_of(&names));
    // Nor does a circle keep it busy.
    product.dimensions[1].within = Some(names[0].clone());
    assert_eq!(product.reads_of([&names[0]]), product.reads_of(&names));
    product.dimensions = vec![];
    assert_ne!(product.reads_of([&names[0]]), product.reads_of(&names));
}
