//! Messages that no gateway of ours would write.

use super::town::{planned, types};
use crate::profile::{FragmentLimits, ProfileError, decode, encode};
use datafusion::execution::SessionState;
use datafusion_substrait::substrait::proto;
use proptest::prelude::*;
use prost::Message;
use proto::expression::RexType;
use proto::expression::field_reference::ReferenceType;
use proto::expression::literal::LiteralType;
use proto::expression::reference_segment::{ReferenceType as Segment, StructField};
use proto::extensions::simple_extension_declaration::MappingType;
use proto::function_argument::ArgType;
use proto::plan_rel::RelType as RootType;
use proto::read_rel::{LocalFiles, ReadType};
use proto::rel::RelType;
use proto::{Expression, FilterRel, Plan, Rel, RelCommon, rel_common};
use std::sync::OnceLock;

fn town() -> &'static SessionState {
    static TOWN: OnceLock<SessionState> = OnceLock::new();
    TOWN.get_or_init(types)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

fn fragment(sql: &str) -> Plan {
    let bytes = runtime().block_on(async {
        let plan = planned(town(), sql).await;
        encode(&town().optimize(&plan).unwrap(), town()).unwrap()
    });
    Plan::decode(bytes.as_slice()).unwrap()
}

fn read(plan: &Plan) -> Result<(), ProfileError> {
    decode(&plan.encode_to_vec(), town(), &FragmentLimits::default()).map(|_| ())
}

fn root(plan: &mut Plan) -> &mut Rel {
    match plan.relations[0].rel_type.as_mut().unwrap() {
        RootType::Root(r) => r.input.as_mut().unwrap(),
        RootType::Rel(r) => r,
    }
}

/// The first relation for which `pick` has something, from the root down the first inputs.
fn find<'a, T>(rel: &'a mut Rel, pick: &dyn Fn(&mut RelType) -> Option<&mut T>) -> &'a mut T {
    let t = rel.rel_type.as_mut().unwrap();
    if pick(t).is_some() {
        return pick(t).unwrap();
    }
    let input = match t {
        RelType::Project(r) => r.input.as_deref_mut(),
        RelType::Filter(r) => r.input.as_deref_mut(),
        RelType::Aggregate(r) => r.input.as_deref_mut(),
        RelType::Sort(r) => r.input.as_deref_mut(),
        RelType::Fetch(r) => r.input.as_deref_mut(),
        _ => None,
    };
    find(input.unwrap(), pick)
}

fn scan(plan: &mut Plan) -> &mut proto::ReadRel {
    find(root(plan), &|t| match t {
        RelType::Read(r) => Some(r.as_mut()),
        _ => None,
    })
}

const QUESTION: &str =
    "SELECT s, sum(i) AS n, max(f + 1) FROM @t WHERE f > 0.1 GROUP BY s ORDER BY n LIMIT 3";

#[test]
fn the_fragment_that_the_rest_start_from_is_read() {
    read(&fragment(QUESTION)).unwrap();
}

#[test]
fn files_and_other_tables_are_refused() {
    let mut files = fragment(QUESTION);
    scan(&mut files).read_type = Some(ReadType::LocalFiles(LocalFiles::default()));
    assert!(matches!(
        read(&files),
        Err(ProfileError::NotInProfile { .. })
    ));
    for names in [
        vec!["t"],
        vec!["tpch", "t"],
        vec!["bench", "tpch", "t", "x"],
        vec!["bench", "tpch", "../../etc/passwd"],
        vec!["", "", ""],
    ] {
        let mut named = fragment(QUESTION);
        let Some(ReadType::NamedTable(table)) = &mut scan(&mut named).read_type else {
            panic!()
        };
        table.names = names.iter().map(|n| (*n).to_owned()).collect();
        assert_eq!(read(&named), Err(ProfileError::NotAProduct), "{names:?}");
    }
    let mut absent = fragment(QUESTION);
    let Some(ReadType::NamedTable(table)) = &mut scan(&mut absent).read_type else {
        panic!()
    };
    table.names[2] = "secrets".to_owned();
    assert!(matches!(
        read(&absent),
        Err(ProfileError::NoSuchProduct { .. })
    ));
}

#[test]
fn functions_off_the_list_are_refused() {
    for name in [
        "repeat",
        "version",
        "random",
        "xor",
        "between",
        "file_row_index",
        "no_such",
    ] {
        let mut plan = fragment(QUESTION);
        for e in &mut plan.extensions {
            if let Some(MappingType::ExtensionFunction(f)) = &mut e.mapping_type {
                f.name = name.to_owned();
            }
        }
        assert!(
            matches!(read(&plan), Err(ProfileError::Function(_))),
            "{name}"
        );
    }
}

#[test]
fn a_function_that_is_not_there_is_named_in_plain_letters() {
    let mut plan = fragment(QUESTION);
    for e in &mut plan.extensions {
        if let Some(MappingType::ExtensionFunction(f)) = &mut e.mapping_type {
            f.name = format!("no_such\n2026 level=\"error\" {}", "x".repeat(200));
        }
    }
    let Err(ProfileError::Function(error)) = read(&plan) else {
        panic!("it is read")
    };
    let said = error.to_string();
    assert!(said.contains("`no_such2026levelerrorxx"), "{said}");
    assert!(!said.contains('\n') && said.len() < 200, "{said}");
}

#[test]
fn indices_out_of_range_are_refused_and_do_not_panic() {
    for field in [99, i32::MAX, -1] {
        let mut mask = fragment(QUESTION);
        if let Some(m) = &mut scan(&mut mask).projection {
            m.select.as_mut().unwrap().struct_items[0].field = field;
            assert!(read(&mask).is_err());
        }
        let mut emit = fragment("SELECT i + 1 FROM @t");
        let project = find(root(&mut emit), &|t| match t {
            RelType::Project(r) => Some(r.as_mut()),
            _ => None,
        });
        project.common = Some(RelCommon {
            emit_kind: Some(rel_common::EmitKind::Emit(rel_common::Emit {
                output_mapping: vec![field],
            })),
            ..Default::default()
        });
        assert!(read(&emit).is_err(), "{field}");
        let mut column = fragment("SELECT i + 1 FROM @t");
        let project = find(root(&mut column), &|t| match t {
            RelType::Project(r) => Some(r.as_mut()),
            _ => None,
        });
        project.expressions = vec![reference(field)];
        assert!(read(&column).is_err(), "{field}");
    }
    let mut grouping = fragment(QUESTION);
    let aggregate = find(root(&mut grouping), &|t| match t {
        RelType::Aggregate(r) => Some(r.as_mut()),
        _ => None,
    });
    aggregate.groupings[0].expression_references = vec![u32::MAX];
    assert!(read(&grouping).is_err());
}

fn reference(field: i32) -> Expression {
    Expression {
        rex_type: Some(RexType::Selection(Box::new(
            proto::expression::FieldReference {
                reference_type: Some(ReferenceType::DirectReference(
                    proto::expression::ReferenceSegment {
                        reference_type: Some(Segment::StructField(Box::new(StructField {
                            field,
                            child: None,
                        }))),
                    },
                )),
                root_type: None,
            },
        ))),
    }
}

#[test]
fn missing_parts_are_refused_and_do_not_panic() {
    let empty = Plan {
        relations: vec![proto::PlanRel::default()],
        ..Default::default()
    };
    assert!(read(&empty).is_err());
    assert!(read(&Plan::default()).is_err());
    let mut bare = fragment(QUESTION);
    root(&mut bare).rel_type = Some(RelType::Filter(Box::default()));
    assert!(read(&bare).is_err());
    root(&mut bare).rel_type = Some(RelType::Join(Box::default()));
    assert!(read(&bare).is_err());
    root(&mut bare).rel_type = Some(RelType::Read(Box::default()));
    assert!(read(&bare).is_err());
}

#[test]
fn a_message_nested_a_thousand_deep_is_refused() {
    let mut plan = fragment("SELECT i FROM @t");
    for _ in 0..1_000 {
        let inner = std::mem::take(root(&mut plan));
        *root(&mut plan) = Rel {
            rel_type: Some(RelType::Filter(Box::new(FilterRel {
                input: Some(Box::new(inner)),
                condition: Some(Box::new(reference(0))),
                ..Default::default()
            }))),
        };
    }
    assert_eq!(read(&plan), Err(ProfileError::Malformed));
}

#[test]
fn size_and_number_are_capped() {
    let bytes = fragment(QUESTION).encode_to_vec();
    let small = FragmentLimits {
        max_bytes: bytes.len() - 1,
        ..Default::default()
    };
    assert!(matches!(
        decode(&bytes, town(), &small),
        Err(ProfileError::TooLarge { .. })
    ));
    let few = FragmentLimits {
        max_nodes: 5,
        ..Default::default()
    };
    assert!(matches!(
        decode(&bytes, town(), &few),
        Err(ProfileError::TooMany { .. })
    ));
    let list = fragment("SELECT i FROM @t WHERE i IN (1, 2, 3, 4, 5, 6, 7)").encode_to_vec();
    let short = FragmentLimits {
        max_list_values: 6,
        ..Default::default()
    };
    assert!(matches!(
        decode(&list, town(), &short),
        Err(ProfileError::TooMany { .. })
    ));
    let rows = fragment("SELECT * FROM (VALUES (1), (2), (3)) AS v (n)").encode_to_vec();
    let short = FragmentLimits {
        max_literal_rows: 2,
        ..Default::default()
    };
    assert!(matches!(
        decode(&rows, town(), &short),
        Err(ProfileError::TooMany { .. })
    ));
}

#[test]
fn no_error_repeats_a_literal() {
    let mut plan = fragment("SELECT i FROM @t WHERE s LIKE 'Mary%Smith'");
    let filter = find(root(&mut plan), &|t| match t {
        RelType::Filter(r) => r.condition.as_deref_mut(),
        _ => None,
    });
    let Some(RexType::ScalarFunction(like)) = &mut filter.rex_type else {
        panic!()
    };
    // The engine quotes an escape character that is not a text.
    like.arguments[2] = like.arguments[1].clone();
    let Some(ArgType::Value(escape)) = &mut like.arguments[2].arg_type else {
        panic!()
    };
    let Some(RexType::Literal(literal)) = &mut escape.rex_type else {
        panic!()
    };
    literal.literal_type = Some(LiteralType::I64(4711));
    let e = read(&plan).unwrap_err();
    assert!(matches!(e, ProfileError::Engine { .. }), "{e}");
    assert!(!format!("{e} {e:?}").contains("4711"), "{e:?}");
}

const SEEDS: &[&str] = &[
    QUESTION,
    "SELECT a.i, b.f FROM @t a LEFT JOIN @t b ON a.s = b.s AND a.i < b.i WHERE a.d < DATE '2024-01-01'",
    "SELECT i, lag(i, 1) OVER (PARTITION BY s ORDER BY ts) FROM @t",
    "SELECT s, b, count(*) FROM @t GROUP BY GROUPING SETS ((s, b), (s), ())",
    "SELECT CASE WHEN i > 1 THEN 'x' ELSE s END, ts - INTERVAL '36' HOUR, dec * 2 FROM @t UNION ALL SELECT s, ts, dec FROM @t",
    "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS v (n, t) JOIN @t ON t.i = v.n",
    "SELECT i, (SELECT max(f) FROM @t) FROM @t WHERE i IN (1, 2, 3, 4, 5) AND s ILIKE 'a%'",
];

fn seeds() -> &'static Vec<Vec<u8>> {
    static BYTES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    BYTES.get_or_init(|| {
        SEEDS
            .iter()
            .map(|sql| fragment(sql).encode_to_vec())
            .collect()
    })
}

/// Reads `bytes`, and sees that no panic had to be caught.
fn unharmed(bytes: &[u8]) {
    let read = decode(bytes, town(), &FragmentLimits::default());
    let broke = matches!(
        read,
        Err(ProfileError::Engine {
            kind: super::super::consume::BROKE,
            ..
        })
    );
    assert!(!broke);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::profile::tests::town::cases(256), failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        unharmed(&bytes);
    }

    #[test]
    fn altered_fragments_never_panic(
        seed in 0..SEEDS.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = seeds()[seed].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        unharmed(&bytes);
    }
}
